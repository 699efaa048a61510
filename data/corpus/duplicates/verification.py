"""Candidates held against their true similarity: who shares a band and is alike, not who shares a band.

Linear in the candidates: of a group that shares a band a few lead, one after the other, and the rest is compared with
those, never all with all; a template that puts ten thousand pages into one group costs ten thousand comparisons for each.
"""

from __future__ import annotations

import numpy as np

from data.corpus.duplicates.components import Components, Links, starts_of_runs
from data.corpus.duplicates.keys import Keyed
from data.corpus.duplicates.shingling import ShingleSets

_LEADERS = 8  # of a group, at most; whoever is like none of them is not linked by this band


def candidates(part: Keyed, components: Components) -> Keyed:
    """The rows that share a key with another component's, of each component the one that comes first; by key, then by order."""
    part = _without_single(part[np.argsort(part["key"], kind="stable")])  # most rows are alone: sorting by three keys is for the others
    component = components.of(part["row"])
    order = np.lexsort((part["order"], component, part["key"]))
    part, component = part[order], component[order]
    part = part[starts_of_runs(part["key"]) | starts_of_runs(component)]
    return _without_single(part[np.lexsort((part["order"], part["key"]))])


def verified_links(part: Keyed, components: Components, sets: ShingleSets, threshold: float) -> Links:
    """Links between rows of equal key whose shingles have the Jaccard similarity `threshold` at least.

    Of each group the row that comes first leads; those alike are linked to it and leave, and the next one left leads then.
    Rows that are one component already count as one.
    """
    waiting = candidates(part, components)
    none = np.zeros(0, dtype=np.int64)
    links: list[Links] = [(none, none)]
    for _ in range(_LEADERS):
        if not len(waiting):
            break
        leads = starts_of_runs(waiting["key"])
        leaders = waiting["row"][np.maximum.accumulate(np.where(leads, np.arange(len(waiting)), 0))][~leads]
        waiting = waiting[~leads]
        alike = sets.jaccards(leaders, waiting["row"]) >= threshold
        links.append((leaders[alike], waiting["row"][alike]))
        waiting = _without_single(waiting[~alike])
    left, right = zip(*links, strict=True)
    return np.concatenate(left), np.concatenate(right)


def _without_single(part: Keyed) -> Keyed:
    """Rows, sorted by key, without those that are alone with theirs."""
    first = starts_of_runs(part["key"])
    last = np.append(first[1:], True)[: len(part)]
    return part[~(first & last)]
