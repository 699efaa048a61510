"""Checkpoints of a running job: whole or absent, the last two kept, a broken one is never used.

`work/checkpoints/step-00000050/` holds one folder per engine, `metrics.jsonl` as it was, and `complete.json`, written
last: it names the job, the stage's own state and every file with its size and hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core.engine import Ranks

KEPT = 2
_HASHED_BYTES = 256 * 2**20  # of larger files, the first and the last so many bytes are hashed


class Checkpoints:
    """All ranks call every method together; rank 0 decides which checkpoint is used."""

    def __init__(self, work: Path, job: str, ranks: Ranks) -> None:
        self.folder, self.job, self.ranks = work / "checkpoints", job, ranks

    def save(
        self, step: int, write: Callable[[Path], None], state: dict[str, Any], files: list[Path]
    ) -> None:
        """`write(folder)` is called on every rank and stores the engines; rank 0 adds `files` and the marker."""
        target = self.folder / f"step-{step:08d}"
        if self.ranks.is_main:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        self.ranks.barrier()
        write(target)
        self.ranks.barrier()
        if self.ranks.is_main:
            for file in files:
                if file.exists():
                    shutil.copyfile(file, target / file.name)
            content = {"job": self.job, "step": step, "state": state, "files": _describe(target)}
            temporary = target / ".complete.json"
            temporary.write_text(json.dumps(content), encoding="utf-8")
            os.replace(temporary, target / "complete.json")
            for old in self._steps()[:-KEPT]:
                shutil.rmtree(self.folder / f"step-{old:08d}", ignore_errors=True)
        self.ranks.barrier()

    def resume(self, read: Callable[[Path], None]) -> tuple[int, dict[str, Any], Path | None]:
        """Load the newest whole checkpoint of this job with `read(folder)`: (step, state, folder), or (0, {}, None)."""
        while True:
            step, state = self.ranks.from_main(self._newest() if self.ranks.is_main else None)
            if not step:
                return 0, {}, None
            folder = self.folder / f"step-{step:08d}"
            try:
                read(folder)
                failure = ""
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            failures = [f for f in self.ranks.gather(failure) if f]
            if not failures:
                return step, state, folder
            if self.ranks.is_main:
                print(
                    f"checkpoint {folder.name} cannot be loaded, using the one before: {failures[0]}",
                    file=sys.stderr,
                )
                shutil.rmtree(folder, ignore_errors=True)
            self.ranks.barrier()

    def _newest(self) -> tuple[int, dict[str, Any]]:
        for step in reversed(self._steps()):
            folder = self.folder / f"step-{step:08d}"
            try:
                content = json.loads((folder / "complete.json").read_text(encoding="utf-8"))
                if content["job"] != self.job:
                    reason = "it belongs to other settings or another number of ranks"
                elif _describe(folder) != content["files"]:
                    reason = "its files are not those that were written"
                else:
                    return step, content["state"]
            except (OSError, ValueError, KeyError) as error:
                reason = f"{type(error).__name__}: {error}"
            print(f"checkpoint {folder.name} is not used: {reason}", file=sys.stderr)
        return 0, {}

    def _steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())


def _describe(folder: Path) -> dict[str, list[Any]]:
    """Every file below `folder` but the marker: [bytes, hash]."""
    described = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("complete.json", ".complete.json"):
            described[str(path.relative_to(folder))] = [path.stat().st_size, _hash(path)]
    return described


def _hash(path: Path) -> str:
    digest, size = hashlib.blake2b(digest_size=16), path.stat().st_size
    with path.open("rb") as file:
        spans = (
            [(0, size)]
            if size <= 2 * _HASHED_BYTES
            else [(0, _HASHED_BYTES), (size - _HASHED_BYTES, _HASHED_BYTES)]
        )
        for start, length in spans:
            file.seek(start)
            while length > 0 and (block := file.read(min(length, 2**20))):
                digest.update(block)
                length -= len(block)
    return digest.hexdigest()
