"""Duplicates of an earlier corpus: its index (signatures of the documents it kept) against this crawl's signatures.

A document that agrees with an earlier one in its normalised text is its copy, one that agrees in a band where their true similarity
is high enough, and so is every document of its cluster. The earlier text is at hand where the corpus's documents lie beside its
index and the text was not changed when it was kept; where it is not, the band decides. One band is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.duplicates.index import CHANGED, local_copies, texts_beside
from data.corpus.duplicates.keys import TEXT, KeyFiles
from data.corpus.duplicates.shingling import ShingleSets, write_sets
from data.document import values
from data.settings import DedupSettings
from data.shards import list_shards, read_shard, write_shard
from data.text import Hashes

_TRIED = 8  # earlier documents of a band that one is compared with, those with the smallest ids
_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """Shards of the earlier corpora's indexes, as they were given and as local files, which may be copies."""

    shards: Sequence[str]
    local: Sequence[Path]

    @classmethod
    def fetched(cls, shards: Sequence[str], folder: Path) -> Index:
        return cls(shards, local_copies(shards, folder))


def label_earlier(
    signatures: Sequence[Path], labels: Path, index: Index, documents: Sequence[Path], work: Path, settings: DedupSettings
) -> int:
    """Add `earlier_duplicate` to the label shards of duplicates: the smallest id of the earlier copies, or null.

    `signatures`, `documents` and the shards in `labels` have the same documents in the same order. What is written for the comparison lies
    in `work`. Returns how many have a copy. Raises ValueError where an index and the documents beside it do not belong together.
    """
    if not signatures:
        return 0
    every = np.concatenate([np.array(values(read_shard(shard, ["id"]), "id"), dtype="S32") for shard in index.local])
    ids, rank = np.unique(every, return_inverse=True)
    keys, known = KeyFiles(signatures, work / "keys", settings), KeyFiles(index.local, work / "index-keys", settings)
    found = np.full(len(keys), len(ids), dtype=np.int64)
    own, earlier = _equal(keys.column(TEXT), known.column(TEXT), rank, 1)
    found[own] = rank[earlier]
    unsure: list[tuple[_Rows, _Rows]] = []
    texts = _Texts(index, documents, work) if settings.verify else None
    for band in keys.bands:
        own, earlier = _equal(keys.column(band), known.column(band), rank, _TRIED if texts else 1)
        readable = texts.readable[earlier] if texts else np.zeros(len(earlier), dtype=np.bool_)
        np.minimum.at(found, own[~readable], rank[earlier[~readable]])
        unsure.append((own[readable], earlier[readable]))
    pairs = np.unique(np.concatenate([np.stack(pair, axis=1) for pair in unsure]), axis=0)
    if texts and len(pairs):
        alike = pairs[texts.jaccards(pairs[:, 0], pairs[:, 1], settings) >= settings.threshold]
        np.minimum.at(found, alike[:, 0], rank[alike[:, 1]])
    return _write(labels, ids, found)


def _equal(own: Hashes, index: Hashes, rank: _Rows, most: int) -> tuple[_Rows, _Rows]:
    """Pairs (row of this crawl, row of the index) of equal value, for each of the former `most` at most, those with the smallest ids."""
    order = np.lexsort((rank, index))
    keys = index[order]
    rows, first = np.arange(len(own)), np.searchsorted(keys, own)
    pairs: list[tuple[_Rows, _Rows]] = []
    for _ in range(most):
        hit = first < len(keys)
        hit[hit] = keys[first[hit]] == own[rows[hit]]
        rows, first = rows[hit], first[hit]
        pairs.append((rows, order[first]))
        first = first + 1
    return np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs])


class _Texts:
    """The shingles of this crawl's documents and of the earlier ones that can be read: `readable`, by row of the index."""

    def __init__(self, index: Index, documents: Sequence[Path], work: Path) -> None:
        self._index, self._documents, self._work = index, documents, work
        self._beside = [texts_beside(shard) for shard in index.shards]
        self.readable = np.concatenate([_unchanged(path, beside) for path, beside in zip(index.local, self._beside, strict=True)])

    def jaccards(self, own: _Rows, earlier: _Rows, settings: DedupSettings) -> NDArray[np.float64]:
        """True similarity of pairs; only shards with a row among them are read."""
        files: list[Path] = []
        for number, (shard, wanted) in enumerate(zip(self._documents, _masks(self._documents, own), strict=True)):
            files.append(self._work / f"own-{number:05d}.sets")
            write_sets(shard, wanted, files[-1], settings)
        start = sum(pq.read_metadata(shard).num_rows for shard in self._documents)
        for number, (shard, wanted) in enumerate(zip(self._index.local, _masks(self._index.local, earlier), strict=True)):
            beside = self._beside[number]
            files.append(self._work / f"earlier-{number:05d}.sets")
            if not wanted.any() or beside is None:
                write_sets(shard, np.zeros_like(wanted), files[-1], settings)
                continue
            (texts,) = local_copies([beside], self._work / f"documents-{number:05d}")
            if not read_shard(texts, ["id"]).equals(read_shard(shard, ["id"])):
                raise ValueError(f"duplicates.earlier: {beside} does not belong to the index beside it; give the index/ folder alone, elsewhere")
            write_sets(texts, wanted, files[-1], settings)
        return ShingleSets(files).jaccards(own, start + earlier)


def _unchanged(shard: Path, beside: str | None) -> NDArray[np.bool_]:
    """Of each row of an index shard whether the documents beside it have the text that was signed. An index from before says nothing of it."""
    if beside is None or CHANGED not in pq.read_schema(shard).names:
        return np.zeros(pq.read_metadata(shard).num_rows, dtype=np.bool_)
    return ~np.array(values(read_shard(shard, [CHANGED]), CHANGED), dtype=np.bool_)


def _masks(shards: Sequence[Path], rows: _Rows) -> list[NDArray[np.bool_]]:
    """Shard by shard, which of its rows are among `rows`, which are numbered through all."""
    ends = np.cumsum([0, *(pq.read_metadata(shard).num_rows for shard in shards)])
    wanted = np.zeros(ends[-1], dtype=np.bool_)
    wanted[rows] = True
    return np.split(wanted, ends[1:-1])


def _write(labels: Path, ids: NDArray[np.bytes_], found: _Rows) -> int:
    """Of every cluster the smallest of its documents' earlier copies, as a column of the label shards."""
    shards = list_shards(labels)
    cluster = np.concatenate([np.array(values(read_shard(path, ["duplicate_cluster"]), "duplicate_cluster"), dtype="S32") for path in shards])
    _, place = np.unique(cluster, return_inverse=True)
    smallest = np.full(len(cluster), len(ids), dtype=np.int64)
    np.minimum.at(smallest, place, found)
    start = 0
    for path in shards:
        table = read_shard(path)
        rows = smallest[place[start : start + table.num_rows]].tolist()
        copies = [ids[row].decode("ascii") if row < len(ids) else None for row in rows]
        write_shard(path, table.append_column("earlier_duplicate", pa.array(copies, pa.string())))
        start += table.num_rows
    return int((smallest[place] < len(ids)).sum())
