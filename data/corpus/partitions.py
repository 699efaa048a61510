"""Rows of the whole corpus dealt into files, so that those which belong together lie in one, and memory is bounded by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 1 << 17  # dealt together: each file that gets one of them is opened for it

Rows = NDArray[Any]  # of any type, one of numpy's structured ones too


def deal(rows: Iterable[Rows], files: Path, count: int, place: Callable[[Rows], NDArray[np.int64]]) -> None:
    """Append each row to the file `files`-<its place>, from 0 to below `count`; all files are there afterwards, some maybe empty.

    A file is open for no longer than a write: there may be more than a process may hold open.
    """
    paths = [Path(f"{files}-{number}") for number in range(count)]
    for path in paths:
        path.write_bytes(b"")
    for part in _together(rows):
        places = place(part)
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(count + 1))
        for number in np.flatnonzero(np.diff(starts)).tolist():
            with paths[number].open("ab") as file:
                file.write(part[order[starts[number] : starts[number + 1]]].tobytes())


def _together(rows: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in parts of some size."""
    waiting: list[Rows] = []
    for part in rows:
        waiting.append(part)
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
