"""Hugging Face datasets as a corpus: `dataset:PATH?name=NAME&split=SPLIT&revision=REVISION`.

PATH is a folder (of data files, or what `save_to_disk` wrote) or a name on the hub. Nothing that a dataset brings along
is executed. A token, where one is needed, is taken from the environment (HF_TOKEN) by the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from data.unchanged import State, state_of

if TYPE_CHECKING:
    from datasets import Dataset

SCHEME = "dataset:"
_KEYS = ("name", "split", "revision")


@dataclass(frozen=True)
class DatasetSource:
    path: str
    name: str | None = None  # the dataset's configuration
    split: str = "train"
    revision: str | None = None

    @property
    def is_local(self) -> bool:
        return Path(self.path).exists()

    @property
    def label(self) -> str:
        """What stands in `source` before the row's number."""
        return "/".join(part for part in (self.path.rstrip("/").rsplit("/", 1)[-1], self.name, self.split) if part)


def parse(entry: str) -> DatasetSource | None:
    """The dataset that `entry` names, or None where it names something else. Raises ValueError for unknown keys."""
    if not entry.startswith(SCHEME):
        return None
    path, _, query = entry.removeprefix(SCHEME).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(_KEYS))
    if unknown or not path:
        raise ValueError(f"{entry}: write dataset:PATH?name=NAME&split=SPLIT&revision=REVISION; unknown: {', '.join(unknown) or 'no PATH'}")
    return DatasetSource(path, given.get("name") or None, given.get("split") or "train", given.get("revision") or None)


def load(source: DatasetSource) -> Dataset:
    """The dataset's split, memory-mapped. Raises ValueError with the library's reason where it cannot be had."""
    return _load(source, state_of(source.path if source.is_local else None))


@lru_cache(maxsize=4)
def _load(source: DatasetSource, state: State) -> Dataset:
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(source.path)
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            saved = load_from_disk(source.path)
            if isinstance(saved, DatasetDict):
                if source.split not in saved:
                    raise ValueError(f"no split {source.split!r}; there are: {', '.join(map(str, saved))}")
                return saved[source.split]
            return saved
        return load_dataset(source.path, source.name, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises a dozen kinds, and its callers' libraries more
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"dataset {source.path!r}, split {source.split!r}: {reason}") from error


def count_rows(source: DatasetSource) -> int:
    return len(load(source))


def revision_of(source: DatasetSource) -> str:
    """What a hub dataset's content is known by: the commit that its revision stands for."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(source.path, source.name, revision=source.revision)
    except Exception as error:
        raise ValueError(f"dataset {source.path!r}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    return str(builder.hash)


def rows(source: DatasetSource, columns: Callable[[list[str]], list[str]], start: int, end: int | None) -> Any:
    """Arrow tables of at most 256 rows, of those that are there the columns that `columns` chooses, from row `start` to before row `end`."""
    dataset = load(source)
    chosen = dataset.select_columns(columns(dataset.column_names)).select(range(start, min(end or len(dataset), len(dataset))))
    return chosen.with_format("arrow").iter(batch_size=256)
