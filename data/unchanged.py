"""What was read from a file, kept in memory for as long as the file stays the same: a process outlives a run, and its lists and models change."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

State = tuple[tuple[str, int, int], ...]  # of each file its path, when it was written (ns), its bytes

_F = TypeVar("_F", bound=Callable[..., Any])


def files_of(path: Path) -> list[Path]:
    """A file itself, or all files of a folder, by their names."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def state_of(path: str | Path | None) -> State:
    """What tells a file or a folder from what it was before; nothing where there is no path. Raises FileNotFoundError."""
    if path is None:
        return ()
    return tuple((str(file), (status := file.stat()).st_mtime_ns, status.st_size) for file in files_of(Path(path)))


def kept_while_unchanged(most: int) -> Callable[[_F], _F]:
    """For a function of a local file or folder and further hashable arguments, by place: the `most` results asked for last are kept."""

    def decorate(function: _F) -> _F:
        @lru_cache(maxsize=most)
        def kept(state: State, path: str | Path | None, *more: Hashable) -> Any:
            return function(path, *more)

        @wraps(function)
        def ask(path: str | Path | None, *more: Hashable) -> Any:
            return kept(state_of(path), path, *more)

        return cast(_F, ask)

    return decorate
