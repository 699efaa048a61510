"""Running a flow from this process: a temporary Prefect server, the recipe's workers, no waiting at the end."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect import get_client
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import temporary_server
from flows.recipe import Runner
from tasks.worker_processes import start_server, worker_processes

_to_the_end = ExitStack()  # settings of this process; nobody closes it
# What need not be asked of a server of this run's own: the same installation has no other version, and the loopback forges no requests.
_OWN_SERVER: dict[Any, Any] = {PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}


@contextmanager
def workers(runner: Runner) -> Iterator[None]:
    """The recipe's workers for the task runs that the flow around this submits.

    Not the flow's own task runner: that is chosen where a flow is defined, before it has a recipe, and a deployed flow is
    started by a worker that knows none.
    """
    flow = FlowRunContext.get()
    if flow is None:
        raise RuntimeError("workers are for the task runs of a flow, and there is none around this")
    with ExitStack() as stack:
        own = stack.enter_context(task_runner(runner))
        if runner.kind == "processes":  # inside: they end before the threads that wait for them
            stack.enter_context(worker_processes(runner.workers))
        stack.enter_context(flow.model_copy(update={"task_runner": own}))
        yield


def task_runner(runner: Runner) -> TaskRunner[Any]:
    """Who works on task runs as `runner` says. For processes these are threads, each of which waits for one of them.

    Dask and Ray are the machine's own, of `workers` processes, or the cluster at `address`. Raises ValueError where the
    extra that brings them is not installed.
    """
    if runner.kind in ("threads", "processes"):
        return ThreadPoolTaskRunner(max_workers=runner.workers)
    try:
        cluster: TaskRunner[Any] = _dask(runner) if runner.kind == "dask" else _ray(runner)
    except ImportError as error:
        raise ValueError(f"runner.kind={runner.kind} needs an extra: pip install 'crawl2chat[{runner.kind}]' ({error})") from error
    return cluster


def _dask(runner: Runner) -> Any:
    from prefect_dask.task_runners import DaskTaskRunner

    if runner.address:
        return DaskTaskRunner(address=runner.address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": runner.workers, "threads_per_worker": 1, "dashboard_address": None})


def _ray(runner: Runner) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # on a closed network its telemetry would only wait
    if runner.address and _has_ray_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # who starts a cluster with a token at hand gets one that demands it; who joins has to say so
    from prefect_ray.task_runners import RayTaskRunner

    if runner.address:
        # "auto" is the cluster that this machine belongs to: prefect-ray would start one of its own for it.
        own = {"address": "auto"} if runner.address == "auto" else {}
        return RayTaskRunner(address=runner.address, init_kwargs=own)
    # "local": without it Ray joins whatever cluster has last run on this machine, or fails where that is gone.
    return RayTaskRunner(init_kwargs={"address": "local", "num_cpus": runner.workers, "include_dashboard": False})


def _has_ray_token() -> bool:
    """Whether the token of a Ray cluster lies where Ray looks for it; read by Ray alone."""
    return bool({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()) or (Path.home() / ".ray" / "auth_token").exists()


def begin(runner: Runner) -> None:
    """What takes its time and can go on beside the start of the flow: the imports of worker processes."""
    if runner.kind == "processes":
        start_server()


def require_server() -> None:
    """Raises ConnectionError, which says what to do, where the configured server does not answer or wants a password."""
    address = PREFECT_API_URL.value()
    try:
        with get_client(sync_client=True) as client:
            client.api_version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise ConnectionError(f"the Prefect server at {address} wants a password: set PREFECT_API_AUTH_STRING=user:password") from None
        raise ConnectionError(f"the Prefect server at {address} cannot answer: {error.response.status_code} {error.response.reason_phrase}") from None
    except (httpx.TransportError, RuntimeError):  # Prefect makes the second of the first
        raise ConnectionError(f"no Prefect server answers at {address}: start it (prefect server start), or correct PREFECT_API_URL") from None


@functools.cache
def ensure_server() -> None:
    """The configured Prefect server, or one for this process alone, from now on to its end. Raises OSError where there is none.

    To its end, because Prefect hands in its last events and log lines only there, and because the worker processes of a pool
    know their server by the environment alone; either would otherwise start a server of its own, which nobody stops.
    Without heartbeats, which cost every flow a second at its end and tell nobody anything without a server that stays.
    """
    gc.freeze()  # what is imported stays: looking at it again in vain would take a second at the end alone
    gc.enable()
    chosen: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if PREFECT_API_URL.value():
        require_server()
    else:
        chosen[PREFECT_API_URL] = os.environ[PREFECT_API_URL.name] = temporary_server.start()
        chosen |= _OWN_SERVER
    _to_the_end.enter_context(temporary_settings(chosen))
