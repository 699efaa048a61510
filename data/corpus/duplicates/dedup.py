"""Near and exact duplicates: signatures per shard, then clusters over the whole corpus.

MinHash-LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4): a document is the set of its shingles; the
minimum of a random hash over the set is equal for two documents with probability J, their Jaccard similarity; `rows`
minima make a band; documents that agree in a band are candidates, with probability 1 - (1 - J^rows)^bands. At 14 x 8
that is .565/.772/.924/.988 at J = .70/.75/.80/.85.

The hash is a*x + b mod 2^32 with a odd, on x that are well mixed already: a permutation, as MinHash wants it, sixteen
to a processor instruction, and without the division that (a*x + b) mod (2^61 - 1) needs.

Layout, so that memory is bounded by one band and not by the texts: `signatures` (a label, mapped over shards) keeps 8
bytes a band; `find_duplicates` takes one band after the other, sorts it, links equal neighbours whose true similarity is
high enough (verification.py) and joins the links.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import kernels
from data.character_tables import character_classes
from data.corpus.duplicates.components import Rows, join, links_of_equal
from data.corpus.duplicates.shingling import ShingleSets, write_sets
from data.corpus.duplicates.verification import candidates, verified_links
from data.document import Counts, label_schema
from data.settings import DedupSettings
from data.shards import read_shard, shard_name, write_shard
from data.text import MULTIPLIER, Hashes, mix, normalise

OverShards = Callable[[Callable[[Path, Path, int], Counts], Sequence[Path], Path], Any]  # (work, shards, out): work(shard, out, index) on each
_AT_ONCE = 256  # documents whose shingles are in memory
_COLUMN_BYTES = 32 << 20  # of bands that are read together: the shards of a small corpus are opened once for all of them
DUPLICATE_LABELS = label_schema(
    {
        "exact_cluster": pa.string(),  # smallest id of the documents with the same normalised text
        "exact_size": pa.int64(),  # documents in it
        "duplicate_cluster": pa.string(),  # smallest id of the near-duplicate cluster
        "duplicate_size": pa.int64(),
    }
)


def signature_schema(bands: int) -> pa.Schema:
    """`text_hash` of the normalised text, and a key per band."""
    return label_schema({"text_hash": pa.uint64()} | {f"band_{band}": pa.uint64() for band in range(bands)})


def permutations(settings: DedupSettings) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Multipliers (odd) and addends of the bands * rows hash functions, from the seed alone."""
    count = settings.bands * settings.rows
    random = np.random.Generator(np.random.PCG64(settings.seed))
    a = random.integers(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = random.integers(0, 1 << 32, count, dtype=np.uint32)
    return a, b


def minhash(shingle_hashes: Sequence[Hashes], settings: DedupSettings) -> NDArray[np.uint32]:
    """MinHash signatures, shape (documents, bands * rows). Every document needs at least one shingle."""
    a, b = permutations(settings)
    minima = b"".join(kernels.minhash(hashes, a, b) for hashes in shingle_hashes)
    return np.frombuffer(minima, np.uint32).reshape(len(shingle_hashes), len(a))


def band_keys(minima: NDArray[np.uint32], settings: DedupSettings) -> Hashes:
    """64-bit key of every band, shape (documents, bands). Keys of different bands do not meet."""
    rows = minima.reshape(len(minima), settings.bands, settings.rows).astype(np.uint64)
    keys = np.zeros(rows.shape[:2], dtype=np.uint64)
    for row in range(settings.rows):
        keys = mix(keys * np.uint64(MULTIPLIER) + rows[:, :, row] + np.uint64(row + 1))
    return keys


def signatures(documents: pa.Table, settings: DedupSettings) -> pa.Table:
    """Label: `text_hash` and one key per band (`signature_schema`)."""
    hashes: list[int] = []
    sets: list[Hashes] = []
    keys: list[Hashes] = [np.zeros((0, settings.bands), np.uint64)]
    for text in documents["text"].to_pylist():
        text_hash, found = kernels.shingles(normalise(text or ""), character_classes(), settings.shingle_words, settings.shingle_characters)
        hashes.append(text_hash)
        sets.append(np.frombuffer(found, np.uint64))
        if len(sets) == _AT_ONCE:
            keys.append(band_keys(minhash(sets, settings), settings))
            sets.clear()
    keys.append(band_keys(minhash(sets, settings), settings))
    bands = np.concatenate(keys)
    columns = [
        documents["id"].combine_chunks(),
        pa.array(hashes, pa.uint64()),
        *(pa.array(np.ascontiguousarray(bands[:, band])) for band in range(settings.bands)),
    ]
    return pa.table(columns, schema=signature_schema(settings.bands))


def find_duplicates(
    signature_shards: Sequence[Path],
    out: Path,
    settings: DedupSettings,
    documents: Sequence[Path] = (),
    work: Path | None = None,
    over_shards: OverShards | None = None,
) -> Counts:
    """Write out/labels/part-* (DUPLICATE_LABELS), shard by shard and row by row as `signature_shards`.

    A cluster is a connected component of links, its name its smallest id: the result depends on neither order nor shards.
    Unless `verify` is off, candidates are linked where their true similarity is `threshold` at least; `documents` are the
    shards that the signatures were made from, of which each is read once, by `over_shards` (default: one after the
    other). What is written for that lies in `work` (default: a folder in `out`) until the end.
    """
    rows = Rows.read(signature_shards)
    columns = partial(_columns, signature_shards, len(rows))
    exact = near = join(len(rows), links_of_equal(next(columns(["text_hash"])), rows.rank))
    bands = [f"band_{band}" for band in range(settings.bands)]
    if settings.verify:
        work = work or out / ".work"
        wanted = candidates(columns(bands), rows.rank, exact)
        sets = _sets_of(wanted, rows, documents, work, settings, over_shards or _one_by_one)
        for keys in columns(bands):
            near = join(len(rows), verified_links(keys, rows.rank, near, sets, settings.threshold), near)
        shutil.rmtree(work)
    else:
        for keys in columns(bands):
            near = join(len(rows), links_of_equal(keys, rows.rank), near)
    _write(rows, exact, near, signature_shards, out)
    return Counts(len(rows), len(rows))


def _sets_of(
    wanted: NDArray[np.bool_], rows: Rows, documents: Sequence[Path], work: Path, settings: DedupSettings, over_shards: OverShards
) -> ShingleSets:
    """The shingles of the `wanted` rows, written to work/sets."""
    if len(documents) != len(rows.starts) - 1:
        raise ValueError(f"duplicates.verify needs the documents: {len(rows.starts) - 1} shards of signatures, {len(documents)} of documents")
    masks = work / "candidates"
    masks.mkdir(parents=True, exist_ok=True)
    for index in range(len(documents)):
        np.save(masks / f"{index:05d}.npy", wanted[rows.starts[index] : rows.starts[index + 1]])
    over_shards(partial(_write_sets, masks=masks, settings=settings), documents, work / "sets")
    return ShingleSets([_set_file(work / "sets", index) for index in range(len(documents))])


def _write_sets(shard: Path, out: Path, index: int, masks: Path, settings: DedupSettings) -> Counts:
    wanted = np.load(masks / f"{index:05d}.npy", allow_pickle=False)
    write_sets(shard, wanted, _set_file(out, index), settings)
    return Counts(len(wanted), len(wanted))


def _set_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.sets"


def _one_by_one(work: Callable[[Path, Path, int], Counts], shards: Sequence[Path], out: Path) -> None:
    for index, shard in enumerate(shards):
        work(shard, out, index)


def _columns(shards: Sequence[Path], rows: int, names: Sequence[str]) -> Iterator[Hashes]:
    """The columns of all shards one after the other, `rows` long each; as many are in memory as take _COLUMN_BYTES, or one."""
    at_once = max(1, _COLUMN_BYTES // max(8 * rows, 1))
    for first in range(0, len(names), at_once):
        together = list(names[first : first + at_once])
        tables = [read_shard(shard, together) for shard in shards]
        for name in together:
            yield np.concatenate([np.zeros(0, np.uint64), *(table[name].to_numpy() for table in tables)])


def _write(
    rows: Rows, exact: NDArray[np.int64], near: NDArray[np.int64], shards: Sequence[Path], out: Path
) -> None:
    sizes = [np.bincount(component, minlength=len(rows))[component] for component in (exact, near)]
    names = [rows.smallest_ids(component) for component in (exact, near)]
    at = 0
    for index, shard in enumerate(shards):
        ids = read_shard(shard, ["id"])["id"].combine_chunks()
        span = slice(at, at + len(ids))
        columns = [ids, names[0](span), pa.array(sizes[0][span]), names[1](span), pa.array(sizes[1][span])]
        write_shard(out / "labels" / shard_name(index), pa.table(columns, schema=DUPLICATE_LABELS))
        at += len(ids)
