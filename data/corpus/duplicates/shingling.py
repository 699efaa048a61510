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

from data.settings import SignatureSettings
from data.shards import read_shard
from data.text import Hashes, shingles

_AT_ONCE = 1 << 21  # shingles of the pairs that are compared together: 16 bytes each, and as much again while they are sorted

Rows = NDArray[np.int64]


def short(hashes: Hashes) -> NDArray[np.uint32]:
    """The upper halves of 64-bit hashes."""
    return (hashes >> np.uint64(32)).astype(np.uint32)


def write_sets(documents: Path, wanted: NDArray[np.bool_], out: Path, settings: SignatureSettings) -> None:
    """Write the sets of the `wanted` rows of a shard: how many rows it has, which of them are wanted, the number of shingles of
    each (.npy, one after the other), then the sorted shingles."""
    texts = read_shard(documents, ["text"])["text"].filter(wanted).to_pylist() if wanted.any() else []  # most shards of a crawl have none
    sets = [np.unique(short(shingles(text or "", settings.shingle_words, settings.shingle_characters))) for text in texts]
    out.parent.mkdir(parents=True, exist_ok=True)
    arriving = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    with arriving.open("wb") as file:
        for numbers in (np.array(len(wanted)), np.flatnonzero(wanted), np.array([len(one) for one in sets], dtype=np.int64)):
            np.save(file, numbers)
        file.write(np.concatenate([*sets, np.zeros(0, np.uint32)]).tobytes())
    os.replace(arriving, out)


class ShingleSets:
    """The files of `write_sets`, shard by shard: rows are numbered through all of them; 24 bytes in memory of each that was wanted."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        none = np.zeros(0, dtype=np.int64)
        rows, lengths, begins = [none], [none], [none]  # of each wanted row its number, its shingles, and the bytes before them
        first = 0
        for path in files:
            with path.open("rb") as file:
                count, wanted, own = (np.load(file, allow_pickle=False) for _ in range(3))
                rows.append(first + wanted)
                lengths.append(own)
                begins.append(file.tell() + 4 * (np.cumsum(own) - own))
            first += int(count)
        self._rows, self._lengths, self._begins = map(np.concatenate, (rows, lengths, begins))
        self._firsts = np.cumsum([len(part) for part in rows])  # place of each file's first wanted row

    def jaccards(self, left: Rows, right: Rows) -> NDArray[np.float64]:
        """Jaccard similarity of the pairs (left[i], right[i]) of rows that were written."""
        left, right = np.searchsorted(self._rows, left), np.searchsorted(self._rows, right)
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
        wanted, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        values, lengths = self._read(wanted), self._lengths[wanted]
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

    def _read(self, wanted: Rows) -> NDArray[np.uint32]:
        """The sets of the rows at these places, which rise, one after the other."""
        out = np.empty(int(self._lengths[wanted].sum()), dtype=np.uint32)
        memory = out.data.cast("B")
        at = 0
        shards = np.searchsorted(self._firsts, wanted, side="right") - 1
        for shard in np.unique(shards).tolist():
            here = wanted[shards == shard]
            with self._files[shard].open("rb", buffering=0) as file:
                for first, count in zip(self._begins[here].tolist(), (4 * self._lengths[here]).tolist(), strict=True):
                    file.seek(first)
                    got = file.readinto(memory[at : at + count])
                    if got != count:
                        raise OSError(f"{self._files[shard]} ends before the shingles of its rows; remove it and run again")
                    at += count
        return out
