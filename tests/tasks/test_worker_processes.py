"""Worker processes: without Prefect, gone when the flow's process is, and a lost one is an error that says what to do."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context

import psutil
import pytest

from data.character_tables import character_classes, normal_forms
from tasks.worker_processes import run_in_worker, worker_processes
from tests.conftest import ROOT


def modules() -> list[str]:
    return list(sys.modules)


def shared() -> tuple[bool, bool]:
    """Whether the tables of characters are there already, and whether what was imported is left alone by the garbage collector."""
    return character_classes.cache_info().currsize == normal_forms.cache_info().currsize == 1, gc.get_freeze_count() > 10_000


def refuse(name: str) -> None:
    raise ValueError(f"no such {name}")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_without_processes_it_is_a_call() -> None:
    assert run_in_worker(os.getpid) == os.getpid()


def test_work_is_done_elsewhere_without_prefect() -> None:
    with worker_processes(1):
        worker = run_in_worker(os.getpid)
        assert worker != os.getpid()
        with ThreadPoolExecutor(1) as threads:  # as Prefect's threads: they inherit the context
            assert threads.submit(copy_context().run, run_in_worker, os.getpid).result() == worker
            assert threads.submit(run_in_worker, os.getpid).result() == os.getpid()
        imported = run_in_worker(modules)
        assert "data.corpus.extraction" in imported
        assert "prefect" not in imported
        assert run_in_worker(shared) == (True, True)
        with pytest.raises(ValueError, match="no such thing"):
            run_in_worker(refuse, "thing")
        with pytest.raises(RuntimeError, match=r"a worker process died; .*fewer runner\.workers"):
            run_in_worker(killed)
    assert not psutil.pid_exists(worker)


def test_an_error_does_not_wait_for_the_work() -> None:
    started = time.monotonic()
    waiting: list[Future[None]] = []

    def interrupted() -> None:
        with worker_processes(1):
            run_in_worker(os.getpid)
            waiting.append(threads.submit(copy_context().run, run_in_worker, time.sleep, 120))
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        with pytest.raises((RuntimeError, CancelledError)):
            waiting[0].result()
    assert time.monotonic() - started < 60


_FLOW = """
import os, time
from tasks.worker_processes import run_in_worker, worker_processes
with worker_processes(1):
    print(run_in_worker(os.getpid), flush=True)
    run_in_worker(time.sleep, 300)
"""


def test_kill_9_leaves_no_worker_behind() -> None:
    flow = subprocess.Popen([sys.executable, "-c", _FLOW], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    worker = psutil.Process(int(flow.stdout.readline()))
    family = [worker, *worker.parents()[:1]]
    assert family[1].ppid() == flow.pid  # the server that forks
    flow.kill()
    flow.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
