"""Launch a training job and own it: progress while it runs, the reason when it fails, no process left behind.

The job runs in a process group of its own. It gets a SIGTERM from the kernel when the thread that waits for it dies
(PR_SET_PDEATHSIG; forked jobs: when their launcher dies, whose input is ours), every rank watches its owner (OWNER),
and whatever ends the wait (success, failure, cancel, timeout) also ends every process below the job.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tasks.launching import Forked, Process, prepare, start_forked

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
OWNER = "CRAWL2CHAT_OWNER"  # read by rlhf_core/job/owner.py
HUB_TOKENS = ("HF_TOKEN", "HF_TOKEN_PATH")  # a job reads models from the hub by their names, some only with a token
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "AUTH", "CONNECTION_URL")
OF_A_LOST_RANK = ("closed by peer", "reset by peer", "remote process exited")  # gloo, gloo, NCCL
PR_SET_PDEATHSIG = 1
_CALLS = 5  # of a silent rank that are told: a collective of torch is three
_LIBC = ctypes.CDLL(None)  # loaded before any fork


class JobFailed(RuntimeError):
    """A job ended badly; the message names the reason and quotes the log lines that explain it."""


@dataclass(frozen=True)
class Limits:
    """Seconds. `silence` counts from the last new line of metrics or log."""

    total: float
    silence: float


def deepspeed_command(module: str, job_file: Path, ranks: int, hostfile: str | None) -> list[str]:
    """`deepspeed` with one rank a GPU, or a CPU process where there is none (gloo).

    Raises JobFailed where the hostfile is missing: DeepSpeed would go on with this machine alone.
    """
    if hostfile and not Path(hostfile).is_file():
        raise JobFailed(f"launch.hostfile: no such file: {hostfile}")
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", str(free_port())]
    launcher += ["--hostfile", str(Path(hostfile).resolve())] if hostfile else ["--num_gpus", str(ranks)]
    return [*launcher, "--module", module, str(job_file)]


def plain_command(module: str, job_file: Path) -> list[str]:
    return [sys.executable, "-m", module, str(job_file)]


def has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and bool(list(Path("/dev").glob("nvidia[0-9]*")))


def environment(ranks: int, threads: int | None) -> dict[str, str]:
    """The job's environment: thread count, accelerator, owner; no secret of ours (the job's log is published) but the hub's token."""
    kept = {name: value for name, value in os.environ.items() if name in HUB_TOKENS or not any(word in name.upper() for word in SECRET_WORDS)}
    kept["OMP_NUM_THREADS"] = str(threads or max(1, (os.cpu_count() or 1) // ranks))
    # Waiting threads sleep. Spinning ones took 7.2 s a step instead of 1.8 beside four busy processes on two cores, and 199 ms
    # instead of 123 alone (two threads, one run each by hand, 2026-11-22).
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    kept["TOKENIZERS_PARALLELISM"] = "false"
    kept["PYTHONUNBUFFERED"] = "1"
    kept[OWNER] = f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time()}"
    if not has_gpu():
        kept["DS_ACCELERATOR"] = "cpu"
    return kept


def job_command(
    module: str, job_file: Path, ranks: int, hostfile: str | None = None, launcher: str = "auto"
) -> list[str] | Forked:
    """On this machine's CPUs a fork of a launcher that has imported everything, else, or if asked for, the `deepspeed` command."""
    if launcher == "deepspeed" or hostfile or has_gpu():
        return deepspeed_command(module, job_file, ranks, hostfile)
    return Forked(module, job_file, ranks)


def prepare_jobs() -> None:
    """Let the imports of the first job begin now, beside other work."""
    if not has_gpu():
        prepare(environment(1, None))


def run_job(
    command: list[str] | Forked,
    log: Path,
    metrics: Path,
    env: dict[str, str],
    limits: Limits,
    on_metrics: Callable[[dict[str, Any]], None] = lambda line: None,
) -> None:
    """Run `command` to its end; raise JobFailed if it dies, hangs past a limit, or reports NaN.

    `log` gets everything that the job prints (appended: a resumed job continues it). New lines of `metrics` (JSON lines)
    are passed to `on_metrics` while the job runs.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    begins_at = log.stat().st_size
    process = start_forked(command, log, env) if isinstance(command, Forked) else _start(command, log, env)
    try:
        _wait(process, log, _Follower(metrics, on_metrics), limits)
    except JobFailed as failure:
        end(process)
        raise JobFailed(f"{failure}\n{explain(log, begins_at)}\nThe whole log: {log}") from None
    finally:
        end(process)


def _start(command: list[str], log: Path, env: dict[str, str]) -> Process:
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, process_group=0,
            preexec_fn=die_with_parent,
        )


def _wait(process: Process, log: Path, follower: _Follower, limits: Limits) -> None:
    started = heard = time.monotonic()
    size = -1
    while True:
        status = process.poll()
        grown = log.stat().st_size
        if follower.read() or grown != size:
            heard, size = time.monotonic(), grown
        if follower.not_finite:
            raise JobFailed(f"the job reported {follower.not_finite}")
        if status == 0:
            return
        if status is not None:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
            raise JobFailed(f"the job {how}")
        now = time.monotonic()
        if now - started > limits.total:
            raise JobFailed(f"the job ran longer than launch.timeout_seconds = {limits.total:g}{standing(process, log)}")
        if now - heard > limits.silence:
            raise JobFailed(f"the job was silent longer than launch.silence_seconds = {limits.silence:g}{standing(process, log)}")
        time.sleep(POLL_SECONDS)


def standing(process: Process, log: Path) -> str:
    """What each process of a job is doing, as the end of an error: the innermost calls of its main thread, which it writes into its log
    when it is asked (`rlhf_core.train.guarded`). Who does not answer is left out."""
    said = []
    for member in list(_family(process.pid)):
        with contextlib.suppress(psutil.Error, OSError):
            if member.status() == psutil.STATUS_STOPPED:
                said.append(f"process {member.pid} is stopped (SIGSTOP)")
            elif _answers(member.pid):
                known = log.stat().st_size
                member.send_signal(signal.SIGUSR1)
                time.sleep(POLL_SECONDS)
                with log.open("rb") as stream:
                    stream.seek(known)
                    calls = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.startswith('  File "')]
                if calls:
                    said.append(f"process {member.pid} is at {', called by '.join(calls[:_CALLS])}")
    return "".join(f"; {one}" for one in said)


def _answers(pid: int) -> bool:
    """Whether the process handles SIGUSR1; any other it would end."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)


class _Follower:
    """Reads whole new lines of a JSON-lines file that another process appends to (and may cut back on a resume)."""

    def __init__(self, path: Path, on_line: Callable[[dict[str, Any]], None]) -> None:
        self.path, self.on_line = path, on_line
        self.position = path.stat().st_size if path.exists() else 0
        self.not_finite = ""

    def read(self) -> bool:
        if not self.path.exists():
            return False
        with self.path.open("rb") as stream:
            if self.path.stat().st_size < self.position:
                self.position = self.path.stat().st_size
            stream.seek(self.position)
            block = stream.read()
        whole, newline, _ = block.rpartition(b"\n")
        self.position += len(whole) + len(newline)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                values = json.loads(line)
                bad = [key for key, value in values.items() if isinstance(value, float) and value != value]
                if bad:
                    self.not_finite = f"NaN as {', '.join(bad)} at step {values.get('step')}"
                self.on_line(values)
        return bool(whole)


def explain(log: Path, begins_at: int = 0, lines: int = 12) -> str:
    """The lines of a log that say why: the last error message where there is one, else the last lines. What ranks say of one that is
    gone comes behind its own reason, and explains nothing."""
    with log.open("rb") as stream:
        stream.seek(max(begins_at, log.stat().st_size - 200_000))
        text = [line.rstrip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    noise = ("[INFO]", "[WARNING]", "Warning:", "Killing subprocess", "launch.py")
    text = [line for line in text if not any(word in line for word in noise)]
    errors = [i for i, line in enumerate(text) if line.startswith("error:") or _names_exception(line)]
    causes = [i for i in errors if not any(words in text[i] for words in OF_A_LOST_RANK)] or errors
    end = causes[-1] + 1 if causes else len(text)
    return "\n".join(text[max(0, end - lines) : end + 2])


def _names_exception(line: str) -> bool:
    head = line.split(":", 1)[0].rsplit(".", 1)[-1].split("] ")[-1].strip()
    return head.endswith(("Error", "Exception", "Interrupt")) and " " not in head


def die_with_parent() -> None:
    """For preexec_fn: the kernel ends this process when the thread that started it dies."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: Process) -> None:
    """End the job's whole process tree and group: SIGTERM, a moment's grace, SIGKILL."""
    alive = list(_family(process.pid))
    for member in alive:
        with contextlib.suppress(psutil.Error):
            member.terminate()
    _, stubborn = psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    for member in stubborn:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()


def _family(pid: int) -> Iterator[psutil.Process]:
    """The job's children, and whoever is left in its process group after its own death."""
    seen: set[int] = set()
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(pid)
        for member in [leader, *leader.children(recursive=True)]:
            seen.add(member.pid)
            yield member
    for member in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if member.pid not in seen and os.getpgid(member.pid) == pid:
                yield member


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
