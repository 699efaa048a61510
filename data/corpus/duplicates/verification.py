"""Candidates held against their true similarity: who shares a band and is alike, not who shares a band.

Linear in the candidates: of a group that shares a band a few lead, one after the other, and the rest is compared with
those, never all with all; a template that puts ten thousand pages into one group costs ten thousand comparisons for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data.corpus.duplicates.components import Component, Links
from data.corpus.duplicates.shingling import ShingleSets
from data.text import Hashes

_LEADERS = 8  # of a group, at most; whoever is like none of them is not linked by this band
_Group = TypeVar("_Group", bound=np.generic)


def candidates(bands: Iterator[Hashes], rank: NDArray[np.int64], component: Component) -> NDArray[np.bool_]:
    """The rows that share a band with another component's, of each component the one with the smallest id."""
    found = np.zeros(len(rank), dtype=np.bool_)
    for keys in bands:
        found[_groups(keys, rank, component)[0]] = True
    return found


def verified_links(keys: Hashes, rank: NDArray[np.int64], component: Component, sets: ShingleSets, threshold: float) -> Links:
    """Links between rows of equal key whose shingles have the Jaccard similarity `threshold` at least.

    Of each group the row with the smallest id leads; those alike are linked to it and leave, and the next one left leads
    then. Rows that are one component already count as one.
    """
    waiting, group = _groups(keys, rank, component)
    links: list[Links] = []
    for _ in range(_LEADERS):
        if not len(waiting):
            break
        leads = np.ones(len(group), dtype=np.bool_)
        leads[1:] = group[1:] != group[:-1]
        leaders = waiting[np.maximum.accumulate(np.where(leads, np.arange(len(group)), 0))][~leads]
        waiting, group = waiting[~leads], group[~leads]
        alike = sets.jaccards(leaders, waiting) >= threshold
        links.append((leaders[alike], waiting[alike]))
        waiting, group = _without_single(waiting[~alike], group[~alike])
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *(left for left, _ in links)]), np.concatenate([none, *(right for _, right in links)])


def _groups(keys: Hashes, rank: NDArray[np.int64], component: Component) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that share a key with another component's, of each component the one with the smallest id, and the number of
    the group that each is in; by group, then by id."""
    order = np.argsort(keys, kind="stable")
    order, _ = _without_single(order, keys[order])  # most rows are alone: sorting by three keys is for the others
    order = order[np.lexsort((rank[order], component[order], keys[order]))]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (keys[order][1:] != keys[order][:-1]) | (component[order][1:] != component[order][:-1])
    order = order[new]
    order = order[np.lexsort((rank[order], keys[order]))]
    ordered = keys[order]
    group = np.cumsum(np.concatenate([np.zeros(min(len(order), 1), np.int64), ordered[1:] != ordered[:-1]]))
    return _without_single(order, group)


def _without_single(rows: NDArray[np.int64], group: NDArray[_Group]) -> tuple[NDArray[np.int64], NDArray[_Group]]:
    """`rows` without those that are alone in their group; both sorted by group."""
    beside = np.zeros(len(group) + 1, dtype=np.bool_)
    beside[1:-1] = group[1:] == group[:-1]
    kept = beside[1:] | beside[:-1] if len(group) else beside[:0]
    return rows[kept], group[kept]
