"""Running a flow in this very process: a temporary Prefect server, the recipe's task runner, no waiting at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.recipe import Runner


def task_runner(runner: Runner) -> TaskRunner[Any]:
    if runner.kind == "processes":
        return ProcessPoolTaskRunner(max_workers=runner.workers)
    return ThreadPoolTaskRunner(max_workers=runner.workers)


@contextmanager
def local_run() -> Iterator[None]:
    """Without heartbeats, which cost every flow a second at its end and tell nobody anything without a server that stays.

    On a fresh machine the server's first start migrates an empty database and compiles its modules; Prefect's own 20 seconds
    were not enough for that on two busy cores.
    """
    local = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180}
    with temporary_settings(local):
        yield
