"""The true Jaccard similarity of candidates, for runs that check it."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.corpus.duplicates.components import Component, Links, Rows
from data.settings import DedupSettings
from data.shards import read_shard
from data.text import Hashes, shingles

_DOCUMENTS_AT_ONCE = 20_000  # whose shingles are held in memory


def jaccard(left: Hashes, right: Hashes) -> float:
    """Jaccard similarity of two sorted arrays of distinct hashes; 1.0 where both are empty."""
    if not len(left) and not len(right):
        return 1.0
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def verified_links(
    keys: Hashes, rows: Rows, documents: list[Path], settings: DedupSettings, component: Component
) -> Links:
    """Links between rows with the same key whose shingles have at least the Jaccard similarity `verify_jaccard`.

    Of each group, in the order of ids, the first document leads; those close to it are linked and leave; the next one
    left leads then. Rows that are one component already are not compared again.
    """
    groups = _groups(keys, rows, component)
    left: list[int] = []
    right: list[int] = []
    at = 0
    while at < len(groups):
        batch: list[NDArray[np.int64]] = []
        size = 0
        while at < len(groups) and (not batch or size + len(groups[at]) <= _DOCUMENTS_AT_ONCE):
            batch.append(groups[at])
            size += len(groups[at])
            at += 1
        sets = _shingle_sets(np.unique(np.concatenate(batch)), rows, documents, settings)
        for group in batch:
            waiting = group.tolist()
            while len(waiting) > 1:
                leader, others, waiting = waiting[0], waiting[1:], []
                for other in others:
                    if jaccard(sets[leader], sets[other]) >= (settings.verify_jaccard or 0.0):
                        left.append(leader)
                        right.append(other)
                    else:
                        waiting.append(other)
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def _groups(keys: Hashes, rows: Rows, component: Component) -> list[NDArray[np.int64]]:
    """Rows that share a key, each component once (by its smallest id), in the order of ids; groups of two or more."""
    order = np.lexsort((rows.rank, component, keys))
    same_key = keys[order][1:] == keys[order][:-1]
    same_component = component[order][1:] == component[order][:-1]
    order = order[np.concatenate([[True], ~(same_key & same_component)])] if len(order) else order
    order = order[np.lexsort((rows.rank[order], keys[order]))]
    ordered = keys[order]
    borders = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def _shingle_sets(
    wanted: NDArray[np.int64], rows: Rows, documents: list[Path], settings: DedupSettings
) -> dict[int, Hashes]:
    starts = rows.starts.tolist()
    by_shard: dict[int, list[int]] = {}
    for row in wanted.tolist():
        by_shard.setdefault(bisect_right(starts, row) - 1, []).append(row)
    sets: dict[int, Hashes] = {}
    for shard, members in by_shard.items():
        texts = read_shard(documents[shard], ["text"])["text"]
        for row in members:
            text = texts[row - starts[shard]].as_py() or ""
            sets[row] = np.unique(shingles(text, settings.shingle_words, settings.shingle_characters))
    return sets
