"""The worker processes of one machine: forks of a server that has imported the corpus stages, and no Prefect.

Prefect's own pool spawns its processes: each imports Prefect and the flow, seconds before its first document, and tells the
server of everything it does. Here a task run stays in the flow's process and only waits, in a thread, for the
process that does its group's work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing import forkserver, parent_process
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import ParamSpec, TypeVar

_IMPORTED = [  # by the server, before its first fork
    "tasks.groups", "data.corpus.reading.readers", "data.corpus.url.gate", "data.corpus.url.repeats", "data.corpus.language",
    "data.corpus.extraction", "data.corpus.quality", "data.corpus.lines", "data.corpus.duplicates.dedup", "data.corpus.perplexity",
    "data.corpus.sensitive", "data.corpus.decontamination", "data.corpus.learned.classifiers", "tasks.worker_tables",
]  # fmt: skip
_starting = threading.Lock()
_pool: ContextVar[ProcessPoolExecutor | None] = ContextVar("worker processes", default=None)
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Worker(ForkServerProcess):
    def start(self) -> None:
        """Without the main module: multiprocessing would run it again in every worker, and it is a flow, which imports Prefect."""
        with _starting:
            main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


class _Context(ForkServerContext):
    Process = _Worker


def start_server() -> None:
    """Begin with the imports of the workers, in a process beside this one; returns at once. Does nothing the second time."""
    _Context().set_forkserver_preload(_IMPORTED)
    forkserver.ensure_running()


@contextmanager
def worker_processes(count: int) -> Iterator[None]:
    """`count` processes for `run_in_worker` within this context and the threads that inherit it. They end with it, and with
    this process however it ends; an error on the way out does not wait for what they are doing."""
    start_server()
    pool = ProcessPoolExecutor(count, mp_context=_Context(), initializer=_begin)
    token = _pool.set(pool)
    try:
        yield
    except BaseException:
        for process in list((pool._processes or {}).values()):  # what Python 3.14 calls terminate_workers
            process.terminate()
        raise
    finally:
        _pool.reset(token)
        pool.shutdown(cancel_futures=True)


def run_in_worker(function: Callable[_P, _R], *given: _P.args, **named: _P.kwargs) -> _R:
    """`function` in one of the worker processes, or in this one where there are none.

    Raises what it raised, or RuntimeError where the process died over it.
    """
    pool = _pool.get()
    if pool is None:
        return function(*given, **named)
    try:
        return pool.submit(function, *given, **named).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died; if the machine ran out of memory (dmesg says so), set fewer runner.workers or smaller ingest.shard_megabytes"
        ) from error


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the flow's to hear
    threading.Thread(target=_end_with_the_flow, daemon=True).start()


def _end_with_the_flow() -> None:
    """However the flow's process ends; the server ends when it and all workers have."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
