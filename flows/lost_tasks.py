"""Task runs of a flow run that crashed: their process is gone, and only the server still believes that they run."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

PAGE = 200  # the API's own limit
LIVING = [StateType.PENDING, StateType.RUNNING]


def end(client: SyncPrefectClient, flow_run: UUID | None = None) -> int:
    """Mark the living task runs of crashed flow runs (of `flow_run` alone, if given) as Crashed. Returns how many."""
    crashed = FlowRunFilter(
        id=FlowRunFilterId(any_=[flow_run]) if flow_run else None,
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
    )
    living = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=LIVING)))
    ended = 0
    while page := client.read_task_runs(flow_run_filter=crashed, task_run_filter=living, limit=PAGE):
        for run in page:
            client.set_task_run_state(run.id, Crashed(message="Its flow run crashed: the worker or its machine was lost."), force=True)
        ended += len(page)
    return ended
