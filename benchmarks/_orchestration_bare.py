"""The pipeline without Prefect's engine, for orchestration.py: its flows and tasks are called as the functions that they wrap."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported, as flows/temporary_server.py does

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect import Flow, Task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import command_line, full_pipeline, local
from flows.recipe import Runner
from tasks.worker_processes import worker_processes


def main() -> None:
    gc.freeze()
    gc.enable()
    recipe, run, until = command_line.parse(sys.argv[1:]).checked(full_pipeline.stage_names)
    with ThreadPoolExecutor(recipe.runner.workers) as pool:

        def submit(task: Task[Any, Any], *given: Any) -> Future[Any]:
            return pool.submit(task.fn, *given)

        Task.__call__ = lambda task, *given, **more: task.fn(*given, **more)  # type: ignore[method-assign]
        Task.submit = submit  # type: ignore[method-assign, assignment]
        Flow.__call__ = _call  # type: ignore[method-assign, assignment]
        local.workers = _workers
        full_pipeline.full_pipeline(recipe, run, until)


def _workers(runner: Runner) -> AbstractContextManager[Any]:
    return worker_processes(runner.workers) if runner.kind == "processes" else nullcontext()


def _call(flow: Flow[Any, Any], *given: Any, return_state: bool = False, **more: Any) -> Any:
    value = flow.fn(*given, **more)
    return Completed(data=value) if return_state and not isinstance(value, State) else value


if __name__ == "__main__":
    main()
