"""Rows of the corpus as numbers, links between equal keys, connected components: numpy arrays of 8 to 16 bytes a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.shards import read_shard
from data.text import Hashes

Component = NDArray[np.int64]
Links = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Rows:
    """All documents, numbered in the order of shards and rows.

    `ids` holds them as 32 bytes of hex each; `rank` is a row's place among the sorted ids.
    """

    ids: NDArray[np.bytes_]
    rank: NDArray[np.int64]
    starts: NDArray[np.int64]  # first row of each shard

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def read(shards: Sequence[Path]) -> Rows:
        parts = [np.array(read_shard(shard, ["id"])["id"].to_pylist(), dtype="S32") for shard in shards]
        ids = np.concatenate(parts) if parts else np.zeros(0, "S32")
        order = np.argsort(ids, kind="stable")
        rank = np.empty(len(ids), dtype=np.int64)
        rank[order] = np.arange(len(ids))
        return Rows(ids, rank, np.cumsum([0, *map(len, parts)]))

    def smallest_ids(self, component: Component) -> Callable[[slice], pa.Array]:
        """A function that gives, for a span of rows, the smallest id of each row's component."""
        first = np.full(len(self), len(self), dtype=np.int64)
        np.minimum.at(first, component, self.rank)
        by_rank = np.empty(len(self), dtype=np.int64)
        by_rank[self.rank] = np.arange(len(self))

        def names(span: slice) -> pa.Array:
            chosen = self.ids[by_rank[first[component[span]]]]
            return pa.array([name.decode("ascii") for name in chosen.tolist()], pa.string())

        return names


def links_of_equal(keys: Hashes, rank: NDArray[np.int64]) -> Links:
    """Links from each row to the row of smallest rank with the same key; rows alone with their key have none."""
    order = np.lexsort((rank, keys))
    ordered = keys[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(keys) else np.zeros(0, np.bool_)
    head = order[np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))]
    return head[~first], order[~first]


def join(rows: int, links: Links, component: Component | None = None) -> Component:
    """Connected components as an array of the smallest row in each; goes on from `component` where it is given.

    Hooking and shortcutting (Shiloach and Vishkin 1982): each round links roots to smaller roots and halves the paths.
    """
    parent = np.arange(rows, dtype=np.int64) if component is None else component.copy()
    left, right = links
    while len(left):
        roots_left, roots_right = parent[left], parent[right]
        unjoined = roots_left != roots_right
        left, right = left[unjoined], right[unjoined]
        low = np.minimum(roots_left, roots_right)[unjoined]
        high = np.maximum(roots_left, roots_right)[unjoined]
        np.minimum.at(parent, high, low)
        while not np.array_equal(above := parent[parent], parent):
            parent = above
    return parent
