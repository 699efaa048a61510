"""A document as the set of its shingles, and the sets of candidates on disk, where their true similarity is looked up.

On disk because they are larger than anything else that finding duplicates needs; four bytes of each hash are enough: two
sets of a thousand shingles agree by chance in one of four thousand pairs, and then in one shingle.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.settings import DedupSettings
from data.shards import read_shard
from data.text import Hashes, shingles

_AT_ONCE = 1 << 21  # shingles of the pairs that are compared together: 16 bytes each, and as much again while they are sorted

Rows = NDArray[np.int64]


def short(hashes: Hashes) -> NDArray[np.uint32]:
    """The upper halves of 64-bit hashes."""
    return (hashes >> np.uint64(32)).astype(np.uint32)


def write_sets(documents: Path, wanted: NDArray[np.bool_], out: Path, settings: DedupSettings) -> None:
    """Write the sets of the `wanted` rows of a shard: the number of shingles of every row (.npy), then the sorted shingles."""
    texts = read_shard(documents, ["text"])["text"].filter(wanted).to_pylist() if wanted.any() else []  # most shards of a crawl have none
    lengths = np.zeros(len(wanted), dtype=np.int64)
    sets: list[NDArray[np.uint32]] = []
    for text in texts:
        sets.append(np.unique(short(shingles(text or "", settings.shingle_words, settings.shingle_characters))))
    lengths[wanted] = [len(one) for one in sets]
    out.parent.mkdir(parents=True, exist_ok=True)
    arriving = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    with arriving.open("wb") as file:
        np.save(file, lengths)
        file.write(np.concatenate([*sets, np.zeros(0, np.uint32)]).tobytes())
    os.replace(arriving, out)


class ShingleSets:
    """The files of `write_sets`, shard by shard: rows are numbered through all of them, 8 bytes each in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        ends: list[NDArray[np.int64]] = []
        self._bases: list[int] = []
        for path in files:
            with path.open("rb") as file:
                ends.append(np.cumsum(np.load(file, allow_pickle=False)))
                self._bases.append(file.tell())
        self._starts = np.cumsum([0, *map(len, ends)])  # first row of each shard
        self._ends = np.concatenate([*ends, np.zeros(0, np.int64)])
        self._lengths = np.diff(self._ends, prepend=0)
        inner = self._starts[:-1][np.diff(self._starts) > 0]
        self._lengths[inner] = self._ends[inner]

    def jaccards(self, left: Rows, right: Rows) -> NDArray[np.float64]:
        """Jaccard similarity of the pairs (left[i], right[i]) of rows that were written."""
        found = np.empty(len(left))
        filled = np.cumsum(self._lengths[left] + self._lengths[right])
        start = 0
        while start < len(left):
            done = filled[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(filled, done + _AT_ONCE, side="right")))
            found[start:stop] = self._compare(left[start:stop], right[start:stop])
            start = stop
        return found

    def _compare(self, left: Rows, right: Rows) -> NDArray[np.float64]:
        rows, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        values, lengths = self._read(rows), self._lengths[rows]
        starts = np.cumsum(lengths) - lengths
        # Every pair's two sets under the pair's number: sorted, a shingle of both stands beside itself.
        size = lengths[place]
        inside = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        pairs = np.tile(np.arange(len(left), dtype=np.uint64), 2)
        keys = np.repeat(pairs << np.uint64(32), size) | values[np.repeat(starts[place], size) + inside]
        keys.sort()
        shared = np.bincount((keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)).astype(np.int64), minlength=len(left))
        either = size[: len(left)] + size[len(left) :] - shared
        return shared / either

    def _read(self, rows: Rows) -> NDArray[np.uint32]:
        """The sets of sorted `rows`, one after the other."""
        out = np.empty(int(self._lengths[rows].sum()), dtype=np.uint32)
        memory = out.data.cast("B")
        at = 0
        for shard in np.unique(np.searchsorted(self._starts, rows, side="right") - 1).tolist():
            here = rows[(rows >= self._starts[shard]) & (rows < self._starts[shard + 1])]
            lengths = self._lengths[here]
            with self._files[shard].open("rb", buffering=0) as file:
                for first, count in zip((4 * (self._ends[here] - lengths) + self._bases[shard]).tolist(), (4 * lengths).tolist(), strict=True):
                    file.seek(first)
                    got = file.readinto(memory[at : at + count])
                    if got != count:
                        raise OSError(f"{self._files[shard]} ends before the shingles of its rows; remove it and run again")
                    at += count
        return out
