"""Which copy of a duplicate cluster stays: best source, most of the preferred label, smallest id.

Rows are dealt by their cluster into partitions on disk: in memory are one partition and, at the end, the copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.rules import numbers
from data.corpus.sampling import id_keys
from data.document import Verdict, values
from data.settings import SelectionSettings

_CLUSTERS = ("exact_cluster", "duplicate_cluster")
_SIZE = "duplicate_size"
EARLIER = "earlier_duplicate"  # id of the copy in an earlier corpus; only where the run knows one
_REASONS = ("earlier_duplicate", "exact_duplicate", "near_duplicate")
_PARTITION_ROWS = 1_000_000  # 150 bytes each
_ROW = np.dtype([("row", "i8"), ("priority", "i4"), ("disliked", "f8"), *((name, "S32") for name in ("id", *_CLUSTERS, EARLIER))])


@dataclass(frozen=True)
class Found:
    """The copies by their row, rising: why each goes (index of _REASONS) and the id that stays."""

    rows: NDArray[np.int64]
    reasons: NDArray[np.int8]
    keepers: NDArray[np.bytes_]

    def verdict(self, row: int) -> Verdict | None:
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return None
        return _REASONS[self.reasons[at]], self.keepers[at].decode("ascii")

    def counts(self) -> dict[str, int]:
        return {reason: int(count) for reason, count in zip(_REASONS, np.bincount(self.reasons, minlength=len(_REASONS)), strict=True) if count}


class Copies:
    """Takes the labels of all documents shard by shard (`add`), then says which are copies (`find`).

    Without the labels of duplicates there are no copies. `documents` is how many will come.
    """

    def __init__(self, settings: SelectionSettings, work: Path, documents: int, partition_rows: int = _PARTITION_ROWS) -> None:
        self._prefer = settings.prefer
        self._patterns = settings.source_priority
        self._partitions = [work / f"copies-{number}" for number in range(max(1, -(-documents // partition_rows)))]
        self._rows = 0
        self.columns = {*_CLUSTERS, _SIZE, EARLIER, "source", *([self._prefer] if self._prefer else [])}  # the labels read

    def add(self, measured: pa.Table) -> None:
        first, self._rows = self._rows, self._rows + measured.num_rows
        names = measured.schema.names
        if _CLUSTERS[1] not in names:
            return
        if self._prefer and self._prefer not in names:
            raise ValueError(f"selection.prefer: no stage measures the label {self._prefer!r}")
        here = np.arange(measured.num_rows)
        if _SIZE in names:  # who is alone is no copy
            copied = numbers(measured, _SIZE) > 1
            if EARLIER in names:
                copied |= np.array(list(map(bool, values(measured, EARLIER))), dtype=np.bool_)
            here = np.flatnonzero(copied)
            measured = measured.take(here)
        rows = np.zeros(len(here), _ROW)
        rows["row"] = first + here
        rows["disliked"] = -np.nan_to_num(numbers(measured, self._prefer)) if self._prefer else 0
        rows["priority"] = [self._priority(source) for source in values(measured, "source")]
        for name in ("id", *_CLUSTERS):
            rows[name] = values(measured, name)
        if EARLIER in names:
            rows[EARLIER] = [found or "" for found in values(measured, EARLIER)]
        place = id_keys(np.ascontiguousarray(rows["duplicate_cluster"]), 0) % np.uint64(len(self._partitions))
        for number in np.unique(place).tolist():
            with self._partitions[number].open("ab") as file:
                file.write(rows[place == number].tobytes())

    def _priority(self, source: str) -> int:
        ranks = (rank for rank, pattern in enumerate(self._patterns) if fnmatchcase(source, pattern))
        return next(ranks, len(self._patterns))

    def find(self, survives: NDArray[np.bool_]) -> Found:
        """The copies among the rows that survive the rules."""
        parts = [_find(np.fromfile(path, _ROW), survives) for path in self._partitions if path.exists()]
        parts.append(Found(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, "S32")))
        rows, reasons, keepers = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "reasons", "keepers"))
        order = np.argsort(rows)
        return Found(rows[order], reasons[order], keepers[order])


def _find(partition: NDArray[np.void], survives: NDArray[np.bool_]) -> Found:
    partition = partition[survives[partition["row"]]]
    known = partition[partition[EARLIER] != b""]
    rows = partition[partition[EARLIER] == b""]
    rows = rows[np.lexsort([rows[name] for name in ("row", "id", "disliked", "priority", "duplicate_cluster")])]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = rows["duplicate_cluster"][1:] != rows["duplicate_cluster"][:-1]
    keeper = rows[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
    exact = (rows["exact_cluster"] == keeper["exact_cluster"])[~first]
    return Found(
        np.concatenate([known["row"], rows["row"][~first]]),
        np.concatenate([np.zeros(len(known), np.int8), np.where(exact, 1, 2).astype(np.int8)]),
        np.concatenate([known[EARLIER], keeper["id"][~first]]),
    )
