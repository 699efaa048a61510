"""Checkpoints of a running job: whole or absent, the last two kept, a broken one or another job's never used.

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
from rlhf_core.job.errors import TrainingFailed
from rlhf_core.job.failures import is_out_of_memory

KEPT = 2
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
_HASHED_BYTES = 256 * 2**20  # of larger files, the first and the last so many bytes are hashed


class Checkpoints:
    """All ranks call every method together; rank 0 decides which checkpoint is used."""

    def __init__(self, work: Path, job: str, ranks: Ranks) -> None:
        self.folder, self.job, self.ranks = work / "checkpoints", job, ranks

    def save(
        self, step: int, write: Callable[[Path], None], state: dict[str, Any], files: list[Path]
    ) -> None:
        """`write(folder)` is called on every rank and stores the engines; rank 0 adds `files` and the marker."""
        target = self._place(step)
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
            self._clear(step)
        self.ranks.barrier()

    def resume(self, read: Callable[[Path], None]) -> tuple[int, dict[str, Any], Path | None]:
        """Load the newest whole checkpoint of this job with `read(folder)`: (step, state, folder), or (0, {}, None).

        Raises TrainingFailed where checkpoints are whole and none can be loaded: what was read in vain is no beginning.
        """
        failed = ""
        step, state = self._agreed(None)
        while step:
            folder = self._place(step)
            try:
                read(folder)
                failure = ""
            except Exception as error:
                if is_out_of_memory(error):  # the checkpoint's fault it is not
                    raise
                failure = f"{type(error).__name__}: {error}"
            failures = [f for f in self.ranks.gather(failure) if f]
            if not failures:
                return step, state, folder
            failed = f"checkpoint {folder.name} cannot be loaded: {failures[0]}"
            if self.ranks.is_main:
                print(f"{failed}; the one before is tried", file=sys.stderr)
            step, state = self._agreed(step)
        if failed:
            raise TrainingFailed(f"{failed}; there is none before it: remove {self.folder} to start from the beginning")
        return 0, {}, None

    def _agreed(self, below: int | None) -> tuple[int, dict[str, Any]]:
        """Step and state, on all ranks the same, of the newest whole checkpoint of this job (before step `below`); (0, {}) where
        there is none."""
        found: tuple[int, dict[str, Any]] = self.ranks.from_main(self._newest(below) if self.ranks.is_main else None)
        return found

    def _newest(self, below: int | None) -> tuple[int, dict[str, Any]]:
        for step in reversed(self._steps()):
            if below is not None and step >= below:
                continue
            try:
                content = self._marker(step)
                if content["job"] != self.job:
                    reason = "it belongs to other settings, other data or another number of ranks"
                elif _describe(self._place(step)) != content["files"]:
                    reason = "its files are not those that were written"
                else:
                    return step, content["state"]
            except _UNREADABLE as error:
                reason = f"{type(error).__name__}: {error}"
            print(f"checkpoint {self._place(step).name} is not used: {reason}", file=sys.stderr)
        return 0, {}

    def _clear(self, newest: int) -> None:
        """Keep the last KEPT of this job up to `newest`. Half-written ones and another job's (its settings or ranks have changed)
        are given up only now, when there is a better one; they may lie behind it."""
        own = [step for step in self._steps() if step <= newest and self._is_own(step)]
        for step in set(self._steps()) - set(own[-KEPT:]):
            shutil.rmtree(self._place(step), ignore_errors=True)

    def _is_own(self, step: int) -> bool:
        try:
            return bool(self._marker(step)["job"] == self.job)
        except _UNREADABLE:
            return False

    def _marker(self, step: int) -> dict[str, Any]:
        """Raises one of _UNREADABLE where there is none, or something else."""
        content: dict[str, Any] = json.loads((self._place(step) / "complete.json").read_text(encoding="utf-8"))
        return content

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

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
