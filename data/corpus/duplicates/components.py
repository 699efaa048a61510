"""Rows of the corpus that belong together: links between equal keys, and what they connect."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.corpus.duplicates.keys import Keyed

Rows = NDArray[np.int64]
Links = tuple[Rows, Rows]
_AT_ONCE = 1 << 16  # rows


class Components:
    """Connected components of rows 0 to `rows` - 1, each named by its smallest row: a forest in 8 bytes a row.

    Trees are hooked to trees of a smaller root, and the paths that were walked are shortened (Tarjan 1975, for many links at once
    after Shiloach and Vishkin 1982); only rows that are asked for or linked are touched.
    """

    def __init__(self, rows: int) -> None:
        self._parent: Rows = np.arange(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._parent)

    def copy(self) -> Components:
        other = Components(0)
        other._parent = self._parent.copy()
        return other

    def of(self, rows: Rows) -> Rows:
        """The component of each of `rows`."""
        found = self._parent[rows]
        while not np.array_equal(above := self._parent[found], found):
            found = above
        self._parent[rows] = found
        return found

    def join(self, links: Links) -> None:
        """Make one component of each pair's two."""
        left, right = links
        while len(left):
            roots_left, roots_right = self.of(left), self.of(right)
            apart = roots_left != roots_right
            left, right = left[apart], right[apart]
            low = np.minimum(roots_left, roots_right)[apart]
            high = np.maximum(roots_left, roots_right)[apart]
            np.minimum.at(self._parent, high, low)
            self._shorten(high)

    def _shorten(self, hooked: Rows) -> None:
        """Lead the `hooked` roots, which may hang one below the other in long chains, straight to the new ones: each round halves the way."""
        while not np.array_equal(above := self._parent[self._parent[hooked]], self._parent[hooked]):
            self._parent[hooked] = above

    def together(self) -> NDArray[np.bool_]:
        """Of each row whether its component has others."""
        found = np.zeros(len(self), dtype=np.bool_)
        for rows in self._blocks():
            component = self.of(rows)
            moved = component != rows
            found[rows[moved]] = True
            found[component[moved]] = True
        return found

    def _blocks(self) -> Iterator[Rows]:
        for start in range(0, len(self), _AT_ONCE):
            yield np.arange(start, min(start + _AT_ONCE, len(self)))


def starts_of_runs(values: NDArray) -> NDArray[np.bool_]:
    """Of sorted values whether each is the first of its equals."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def links_of_equal(part: Keyed) -> Links:
    """Links from each row to one of the same key; rows alone with their key have none."""
    part = part[np.argsort(part["key"], kind="stable")]
    first = starts_of_runs(part["key"])
    head = part["row"][np.maximum.accumulate(np.where(first, np.arange(len(part)), 0))]
    return head[~first], part["row"][~first]
