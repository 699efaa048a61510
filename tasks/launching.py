"""Processes that jobs run in: started anew from a command, or forked by a launcher that has imported everything.

A launcher (rlhf_core/job/launcher.py) outlives its job and serves the next one, so that only the first job of a run waits
for imports. It ends with this process: its standard input is ours.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Variables that libraries read when they are imported: a launcher serves jobs that agree with it on these. (Jobs set
# their number of threads themselves.)
_READ_AT_IMPORT = ("PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "DS_", "HF_", "TRANSFORMERS_", "TORCH", "PYTORCH", "CUDA_", "LD_")


class Process(Protocol):
    """What the owner of a job needs of it; as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


@dataclass(frozen=True)
class Forked:
    """A job of `python -m MODULE JOB_FILE` on this machine's CPUs, as forks of a launcher."""

    module: str
    job_file: Path
    ranks: int = 1


class Launcher:
    """One launcher process and its pipes. It serves one job at a time."""

    def __init__(self, env: dict[str, str], preloaded: Sequence[str] = ()) -> None:
        self.env = env
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rlhf_core.job.launcher", *preloaded],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, process_group=0,
        )  # fmt: skip
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            os.set_blocking(pipe.fileno(), False)
        self._heard = b""
        self._problem = b""

    def start(self, job: Forked, log: Path, env: dict[str, str]) -> ForkedProcess:
        """Fork the job; raises RuntimeError with the launcher's last words if it cannot start."""
        request = {
            "module": job.module, "argv": [str(job.job_file)], "ranks": job.ranks, "env": env, "cwd": os.getcwd(),
            "log": str(log.resolve()),
        }  # fmt: skip
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        while (answer := self.answer()) is None:
            time.sleep(0.02)
        if "pid" not in answer:
            raise RuntimeError(f"jobs cannot be started: {self._problem.decode('utf-8', 'replace')[-2000:]}")
        return ForkedProcess(answer["pid"], self)

    def answer(self) -> dict[str, Any] | None:
        """The next answer, None while there is none; the launcher's own end counts as its job's."""
        alive = self._process.poll() is None
        assert self._process.stdout and self._process.stderr
        self._heard += self._process.stdout.read() or b""
        self._problem = (self._problem + (self._process.stderr.read() or b""))[-10_000:]
        line, newline, rest = self._heard.partition(b"\n")
        if newline:
            self._heard = rest
            return dict(json.loads(line))
        return None if alive else {"status": self._process.returncode or 1}

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()


class ForkedProcess:
    """The leading process of a job that a launcher forked."""

    def __init__(self, pid: int, launcher: Launcher) -> None:
        self.pid, self._launcher, self._status = pid, launcher, None

    _status: int | None

    def poll(self) -> int | None:
        if self._status is None and (answer := self._launcher.answer()):
            self._status = int(answer["status"])
            _give_back(self._launcher)
        return self._status

    def wait(self) -> int:
        while (status := self.poll()) is None:
            time.sleep(0.02)
        return status


_idle: list[Launcher] = []
_lock = threading.Lock()


def prepare(env: dict[str, str]) -> None:
    """Begin the imports of a launcher before the first job asks for one."""
    with _lock:
        if not _idle:
            _idle.append(Launcher(env))


def start_forked(job: Forked, log: Path, env: dict[str, str]) -> ForkedProcess:
    with _lock:
        fitting = [launcher for launcher in _idle if launcher.alive and _agree(launcher.env, env)]
        for launcher in _idle:
            if launcher not in fitting[:1]:
                launcher.close()
        _idle.clear()
    launcher = fitting[0] if fitting else Launcher(env)
    return launcher.start(job, log, env)


def _agree(one: dict[str, str], other: dict[str, str]) -> bool:
    def read_at_import(env: dict[str, str]) -> dict[str, str]:
        return {k: v for k, v in env.items() if k.startswith(_READ_AT_IMPORT) and k != "OMP_NUM_THREADS"}

    return read_at_import(one) == read_at_import(other)


def _give_back(launcher: Launcher) -> None:
    with _lock:
        if launcher.alive:
            _idle.append(launcher)


@atexit.register
def close_all() -> None:
    with _lock:
        for launcher in _idle:
            launcher.close()
        _idle.clear()
