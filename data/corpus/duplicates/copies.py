"""Which copy of a duplicate cluster stays: best source, most of the preferred label, smallest id."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.rules import numbers
from data.document import Verdict, values
from data.settings import SelectionSettings

_CLUSTERS = ("exact_cluster", "duplicate_cluster")
_EARLIER = "earlier_duplicate"  # id of the copy in an earlier corpus; only where the run knows one


class Copies:
    """Takes the labels of all documents shard by shard (`add`), then says which are copies (`verdicts`).

    Without the labels of duplicates there are no copies.
    """

    def __init__(self, settings: SelectionSettings) -> None:
        self._prefer = settings.prefer
        self._patterns = settings.source_priority
        self._columns: dict[str, list[NDArray]] = {name: [] for name in ("id", "priority", "disliked", _EARLIER, *_CLUSTERS)}
        self.columns = {*_CLUSTERS, _EARLIER, "source", *([self._prefer] if self._prefer else [])}  # the labels read

    def add(self, measured: pa.Table) -> None:
        names = measured.schema.names
        if _CLUSTERS[1] not in names:
            return
        if self._prefer and self._prefer not in names:
            raise ValueError(f"selection.prefer: no stage measures the label {self._prefer!r}")
        rows = measured.num_rows
        liked = np.nan_to_num(numbers(measured, self._prefer)) if self._prefer else np.zeros(rows)
        self._columns["disliked"].append(-liked)
        self._columns["priority"].append(np.array([self._priority(source) for source in values(measured, "source")], dtype=np.int32))
        for name in ("id", *_CLUSTERS):
            self._columns[name].append(np.array(values(measured, name), dtype="S32"))
        earlier = values(measured, _EARLIER) if _EARLIER in names else [None] * rows
        self._columns[_EARLIER].append(np.array([found or "" for found in earlier], dtype="S32"))

    def _priority(self, source: str) -> int:
        ranks = (rank for rank, pattern in enumerate(self._patterns) if fnmatchcase(source, pattern))
        return next(ranks, len(self._patterns))

    def verdicts(self, survives: NDArray[np.bool_]) -> dict[int, Verdict]:
        """Row -> reason and the id that stays, for the copies among the rows that survive the rules."""
        if not self._columns["id"]:
            return {}
        every = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        known = survives & (every[_EARLIER] != b"")
        verdicts: dict[int, Verdict] = {
            row: ("earlier_duplicate", every[_EARLIER][row].decode("ascii")) for row in np.flatnonzero(known).tolist()
        }
        rows = np.flatnonzero(survives & ~known)
        if not len(rows):
            return verdicts
        keys = (rows, every["id"][rows], every["disliked"][rows], every["priority"][rows], every["duplicate_cluster"][rows])
        rows = rows[np.lexsort(keys)]
        cluster = every["duplicate_cluster"][rows]
        first = np.concatenate([[True], cluster[1:] != cluster[:-1]])
        head = rows[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
        for row, keeper in zip(rows[~first].tolist(), head[~first].tolist(), strict=True):
            exact = every["exact_cluster"][row] == every["exact_cluster"][keeper]
            verdicts[row] = ("exact_duplicate" if exact else "near_duplicate", every["id"][keeper].decode("ascii"))
        return verdicts
