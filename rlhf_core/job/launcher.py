"""Starts jobs on this machine's CPUs: what every job imports is imported once, then each rank is a fork of this process.

tasks/launching.py starts `python -m rlhf_core.job.launcher` and writes one request a line to its standard input:
{"module", "argv", "ranks", "env", "cwd", "log"}. It answers {"pid"} when the job's leading process is there and
{"status"} when it has ended (as subprocess does: negative = ended by that signal). One job at a time; when the input
ends, so do the job and the launcher. Ranks find the variables that DeepSpeed's own launcher would set.

Why not `deepspeed`: on CPUs its runner, its launcher and every rank import torch one after the other, 4 s before the
first rank begins, and it looks for the ranks' end once a second. With GPUs or several nodes it is used as it stands;
processes that will use CUDA must not be forks of one that asked for devices.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

from rlhf_core.job.owner import end_with_parent

PRELOADED = (
    "torch",
    "torch._dynamo",  # torch.optim imports it with the first optimizer
    "deepspeed",
    "pyarrow.parquet",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)
POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0


def main() -> int:
    """`argv`: modules to import instead of PRELOADED (tests need none: give `json`)."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what imports print is no answer
    for name in sys.argv[1:] or PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # forks share these objects; the collector would copy them by touching them
    while request := _next_request():
        pid = os.fork()
        if pid == 0:
            answers.close()
            _lead(request)
        _answer(answers, pid=pid)
        _answer(answers, status=_wait_for(pid))
    return 0


def _answer(answers: Any, **content: int) -> None:
    answers.write(json.dumps(content) + "\n")


def _next_request() -> dict[str, Any] | None:
    line = b""
    while not line.endswith(b"\n"):
        block = os.read(0, 2**20)
        if not block:
            return None
        line += block
    request: dict[str, Any] = json.loads(line)
    return request


def _wait_for(pid: int) -> int:
    """The leader's exit status; where our owner is gone, the leader is ended."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        if readable:  # nobody asks while a job runs: the input has ended
            os.kill(pid, signal.SIGTERM)
            time.sleep(POLL_SECONDS)


# In the job's processes


def _lead(request: dict[str, Any]) -> NoReturn:
    """The leading process of a job: rank 0 where it is alone, else the one that waits for all ranks."""
    os.setpgid(0, 0)
    end_with_parent()
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    world = request["ranks"]
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world)
    )
    if world == 1:
        _work(request, 0)
    ranks = {}
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            end_with_parent()
            _work(request, rank)
        ranks[pid] = rank
    os._exit(_wait_for_ranks(ranks))


def _work(request: dict[str, Any], rank: int) -> NoReturn:
    """Run the module's main() as this rank, and end without the seconds that tearing down torch takes."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    sys.argv = [request["module"], *request["argv"]]
    status = 1
    try:
        status = int(importlib.import_module(request["module"]).main() or 0)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_for_ranks(ranks: dict[int, int]) -> int:
    """0 when all ranks end well; with the first that does not, the others are ended: they would wait for it forever."""
    while ranks:
        pid, found = os.wait()
        rank, status = ranks.pop(pid), os.waitstatus_to_exitcode(found)
        if status:
            if status < 0:
                name = signal.Signals(-status).name
                hint = " (the kernel does this when memory runs out)" if status == -signal.SIGKILL else ""
                print(f"error: rank {rank} was ended by {name}{hint}", file=sys.stderr, flush=True)
            _end(list(ranks))
            return status if status > 0 else 1
    return 0


def _end(pids: list[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
