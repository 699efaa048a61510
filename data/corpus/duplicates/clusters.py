"""Names and sizes of clusters, shard by shard: rows are dealt by their component, named, and dealt back to their shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.corpus.duplicates.components import Components, starts_of_runs
from data.corpus.partitions import deal
from data.document import id_bytes
from data.shards import read_shard

_PARTITION_ROWS = 1_000_000  # 48 bytes each, and as much again some three times while they are sorted
_BUCKET_SHARDS = 64  # shards whose names are in memory
_MEMBER = np.dtype([("row", "i8"), ("component", "i8"), ("id", "S32")])
_NAMED = np.dtype([("row", "i8"), ("size", "i8"), ("name", "S32")])


class Clusters:
    """Of every document the smallest id of its component, and how many are in it; those alone are told by not being on disk.

    `shards` have the documents' ids, `starts` the first row of each and the end; `files` is how what is written is called.
    """

    def __init__(self, components: Components, shards: Sequence[Path], starts: NDArray[np.int64], files: Path) -> None:
        self._starts, self._files = starts, files
        together = components.together()
        partitions = max(1, -(-int(together.sum()) // _PARTITION_ROWS))
        members = Path(f"{files}-members")
        deal(_members(components, together, shards, starts), members, partitions, lambda rows: rows["component"] * partitions // len(components))
        self._buckets = starts[:-1:_BUCKET_SHARDS]
        named = (_named(np.fromfile(f"{members}-{number}", _MEMBER)) for number in range(partitions))
        deal(named, files, len(self._buckets), lambda rows: np.searchsorted(self._buckets, rows["row"], side="right") - 1)
        self._in_memory: tuple[int, NDArray[np.void]] = -1, np.zeros(0, _NAMED)

    def labels(self, shard: int, ids: list[str]) -> tuple[list[str], NDArray[np.int64]]:
        """Cluster and size of a shard's documents, whose ids these are; faster shard by shard."""
        bucket = shard // _BUCKET_SHARDS
        if bucket != self._in_memory[0]:
            found = np.fromfile(f"{self._files}-{bucket}", _NAMED)
            self._in_memory = bucket, found[np.argsort(found["row"])]
        named = self._in_memory[1]
        start, stop = self._starts[shard : shard + 2]
        own = named[np.searchsorted(named["row"], start) : np.searchsorted(named["row"], stop)]
        names, sizes = ids.copy(), np.ones(len(ids), dtype=np.int64)
        sizes[own["row"] - start] = own["size"]
        for at, name in zip((own["row"] - start).tolist(), own["name"].tolist(), strict=True):
            names[at] = name.decode("ascii")
        return names, sizes


def _members(components: Components, together: NDArray[np.bool_], shards: Sequence[Path], starts: NDArray[np.int64]) -> Iterator[NDArray[np.void]]:
    for shard, start, stop in zip(shards, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        here = np.flatnonzero(together[start:stop])
        members = np.empty(len(here), _MEMBER)
        if len(here):
            members["row"] = start + here
            members["component"] = components.of(start + here)
            members["id"] = id_bytes(read_shard(shard, ["id"]))[here]
        yield members


def _named(members: NDArray[np.void]) -> NDArray[np.void]:
    members = members[np.lexsort((members["id"], members["component"]))]
    first = starts_of_runs(members["component"])
    place = np.cumsum(first) - 1
    named = np.empty(len(members), _NAMED)
    named["row"], named["name"] = members["row"], members["id"][first][place]
    named["size"] = np.bincount(place, minlength=1)[place]
    return named
