"""Duplicates of an earlier corpus: its index (signatures of the documents it kept) against this crawl's signatures.

A document that agrees with an earlier one in its normalised text is its copy, one that agrees in a band where their true similarity
is high enough, and so is every document of its cluster. The earlier text is at hand where the corpus's documents lie beside its
index and the text was not changed when it was kept; where it is not, the band decides. Both are compared in partitions of a band; in
memory are one of these, 8 bytes of each document, one of each earlier one, and the pairs that are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.duplicates.index import CHANGED, local_copies, texts_beside
from data.corpus.duplicates.keys import TEXT, KeyFiles, document_order, partitions_of
from data.corpus.duplicates.shingling import ShingleSets, write_sets
from data.corpus.lookup import look_up
from data.document import id_bytes, values
from data.settings import DedupSettings
from data.shards import list_shards, read_shard, write_shard
from data.text import Hashes

_TRIED = 8  # earlier documents of a band that one is compared with, those that come first
_NONE = np.iinfo(np.uint64).max
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
    """Add `earlier_duplicate` to the label shards of duplicates: the id of the earlier copy that comes first (keys.py), or null.

    `signatures`, `documents` and the shards in `labels` have the same documents in the same order. What is written for the comparison lies
    in `work`. Returns how many have a copy. Raises ValueError where an index and the documents beside it do not belong together.
    """
    if not signatures:
        return 0
    keys, known = KeyFiles(signatures, work / "keys", settings), KeyFiles(index.local, work / "index-keys", settings)
    found = np.full(len(keys), _NONE, dtype=np.uint64)  # of each document the order of its earlier copy
    for own, earlier in _equal(keys, known, TEXT, 1):
        np.minimum.at(found, own, known.order(earlier))
    texts = _Texts(index, documents, work) if settings.verify else None
    unsure = [np.zeros((0, 2), np.int64)]
    for band in keys.bands:
        for own, earlier in _equal(keys, known, band, _TRIED if texts else 1):
            readable = texts.readable[earlier] if texts else np.zeros(len(earlier), dtype=np.bool_)
            np.minimum.at(found, own[~readable], known.order(earlier[~readable]))
            unsure.append(np.stack((own[readable], earlier[readable]), axis=1))
    pairs = np.unique(np.concatenate(unsure), axis=0)
    if texts and len(pairs):
        alike = pairs[texts.jaccards(pairs[:, 0], pairs[:, 1], settings) >= settings.threshold]
        np.minimum.at(found, alike[:, 0], known.order(alike[:, 1]))
    return _write(labels, index.local, found)


def _equal(keys: KeyFiles, known: KeyFiles, name: str, most: int) -> Iterator[tuple[_Rows, _Rows]]:
    """Pairs (row of this crawl, row of the index) of equal key, for each of the former `most` at most, those that come first."""
    count = partitions_of(max(len(keys), len(known)))
    for own, earlier in zip(keys.partitions(name, count), known.partitions(name, count), strict=True):
        earlier = earlier[np.lexsort((earlier["order"], earlier["key"]))]
        at = np.searchsorted(earlier["key"], own["key"])
        for _ in range(most):
            hit = at < len(earlier)
            hit[hit] = earlier["key"][at[hit]] == own["key"][hit]
            own, at = own[hit], at[hit]
            yield own["row"], earlier["row"][at]
            at = at + 1


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


def _write(labels: Path, index: Sequence[Path], found: Hashes) -> int:
    """Of every cluster the first of its documents' earlier copies, as a column of the label shards."""
    shards = list_shards(labels)
    clusters, firsts = _firsts_of_clusters(shards, found)
    orders = np.unique(firsts)
    ids = _ids_of(index, orders)
    copies = 0
    for path in shards:
        table = read_shard(path)
        at, known = look_up(id_bytes(table, "duplicate_cluster"), clusters)
        names = np.full(table.num_rows, None, dtype=object)
        names[known] = [name.decode("ascii") for name in ids[np.searchsorted(orders, firsts[at[known]])].tolist()]
        write_shard(path, table.append_column("earlier_duplicate", pa.array(names, pa.string())))
        copies += int(known.sum())
    return copies


def _firsts_of_clusters(shards: Sequence[Path], found: Hashes) -> tuple[NDArray[np.bytes_], Hashes]:
    """The clusters with an earlier copy, sorted, and the order of the first copy of each."""
    names, orders, start = [np.zeros(0, "S32")], [np.zeros(0, np.uint64)], 0
    for path in shards:
        cluster = id_bytes(read_shard(path, ["duplicate_cluster"]), "duplicate_cluster")
        own = found[start : start + len(cluster)]
        names.append(cluster[own != _NONE])
        orders.append(own[own != _NONE])
        start += len(cluster)
    clusters, place = np.unique(np.concatenate(names), return_inverse=True)
    firsts = np.full(len(clusters), _NONE, dtype=np.uint64)
    np.minimum.at(firsts, place, np.concatenate(orders))
    return clusters, firsts


def _ids_of(index: Sequence[Path], orders: Hashes) -> NDArray[np.bytes_]:
    """The ids of the earlier documents of these `orders`, which rise."""
    ids = np.zeros(len(orders), dtype="S32")
    for shard in index:
        own = id_bytes(read_shard(shard, ["id"]))
        at, hit = look_up(document_order(own), orders)
        ids[at[hit]] = own[hit]
    return ids
