"""The inputs of a job by role: local folders and files, or hub names for models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import TrainingStage


@dataclass(frozen=True)
class Inputs:
    """Roles as in `settings.Job`. An artifact folder may be given where its model/ or tokenizer/ is meant. `work` is the job's
    own folder, which all ranks see and which a resumed job finds as it was."""

    roles: dict[str, str]
    work: Path | None = None

    def has(self, role: str) -> bool:
        return role in self.roles

    def path(self, role: str) -> Path:
        if role not in self.roles:
            raise BadInput(f"the job's inputs lack the role {role!r}; they are {sorted(self.roles)}")
        path = Path(self.roles[role])
        if not path.exists():
            raise BadInput(f"input {role}: no such file or folder: {path}")
        return path

    def folder(self, role: str) -> Path:
        path = self.path(role)
        if not path.is_dir():
            raise BadInput(f"input {role}: {path} is no folder")
        return path

    def examples(self, role: str) -> Path:
        """The file to learn from in a split or another folder of records."""
        folder = self.folder(role)
        if not (folder / "train.jsonl").is_file():
            raise BadInput(f"input {role}: no train.jsonl in {folder}: a split is wanted, or a folder with such a file of conversations or rankings")
        return folder / "train.jsonl"

    def scratch(self, name: str) -> Path:
        """A folder below `work`, which may not exist yet."""
        if self.work is None:
            raise BadInput("these inputs belong to no job, so there is no folder to work in")
        return self.work / name

    def digest(self, roles: Iterable[str]) -> str:
        """What tells the data in these folders from others. Of a Parquet file its size and its end are read, where the sizes and the
        statistics of all its columns are."""
        total = hashlib.blake2b(digest_size=8)
        for folder in map(self.folder, roles):
            for file in sorted(path for name in _READ for path in folder.rglob(name)):
                with file.open("rb") as stream:
                    size = stream.seek(0, os.SEEK_END)
                    stream.seek(max(0, size - _FOOTER) if file.suffix == ".parquet" else 0)
                    total.update(f"{file.relative_to(folder)}\0{size}\0".encode("utf-8", "surrogateescape"))
                    while block := stream.read(2**20):
                        total.update(block)
        return total.hexdigest()

    def model(self, role: str) -> str:
        """A model or tokenizer folder, or a hub name where no such folder exists."""
        if role not in self.roles:
            raise BadInput(f"the job's inputs lack the role {role!r}; they are {sorted(self.roles)}")
        path = Path(self.roles[role])
        for inner in ("model", "tokenizer"):
            if (path / inner).is_dir():
                return str(path / inner)
        if path.is_absolute() and not path.exists():
            raise BadInput(f"input {role}: no such folder: {path}")
        return str(path)


_READ = ("train.jsonl", "eval.jsonl", "conversations.jsonl", "plan.json", "part-*.parquet")  # what stages learn from
_FOOTER = 2**16  # bytes


def portion(count: int, passes: float, seed: int) -> NDArray[np.int64]:
    """The places of `count` items so many times over; a part of a pass is drawn by the seed and keeps their order."""
    whole, part = divmod(passes, 1.0)
    drawn = np.sort(np.random.default_rng([seed, 0xB1E]).permutation(count)[: round(part * count)])
    return np.concatenate([np.tile(np.arange(count), int(whole)), drawn])


def check_length(settings: TrainingStage, model: Any, length: int | None = None) -> None:
    """Sequences must fit the model's positions."""
    positions = getattr(model.config, "max_position_embeddings", None)
    wanted = length or settings.max_length
    if positions and wanted > positions:
        raise BadInput(f"stage {settings.name}: {wanted} tokens do not fit the model's {positions} positions")
