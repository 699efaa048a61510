"""What was read from a file, kept in memory for as long as the file stays the same: a process outlives a run, and its lists and models change."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

State = tuple[tuple[str, int, int], ...]  # of each file its path, when it was written (ns), its bytes

_File = TypeVar("_File", bound=str | Path | None)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def files_of(path: Path) -> list[Path]:
    """A file itself, or all files of a folder, by their names."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def state_of(path: str | Path | None) -> State:
    """What tells a file or a folder from what it was before; nothing where there is no path. Raises FileNotFoundError."""
    if path is None:
        return ()
    return tuple((str(file), (status := file.stat()).st_mtime_ns, status.st_size) for file in files_of(Path(path)))


def kept_while_unchanged(most: int) -> Callable[[Callable[Concatenate[_File, _P], _R]], Callable[Concatenate[_File, _P], _R]]:
    """For a function of a local file or folder and further hashable arguments: the `most` results that were asked for last are kept."""

    def decorate(function: Callable[Concatenate[_File, _P], _R]) -> Callable[Concatenate[_File, _P], _R]:
        @lru_cache(maxsize=most)
        def kept(state: State, path: Any, *more: Any, **named: Any) -> _R:
            return function(path, *more, **named)

        @wraps(function)
        def ask(path: _File, *more: _P.args, **named: _P.kwargs) -> _R:
            return kept(state_of(path), path, *more, **named)

        return ask

    return decorate
