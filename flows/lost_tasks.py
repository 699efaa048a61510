"""Task runs of a flow run that crashed, or was cancelled and had to be killed: only the server still believes that they run."""

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
GONE = [StateType.CRASHED, StateType.CANCELLED]  # at any other end the process itself has ended its tasks
LIVING = [StateType.PENDING, StateType.RUNNING]


def end(client: SyncPrefectClient, flow_run: UUID | None = None) -> int:
    """Mark the living task runs of crashed and cancelled flow runs (of `flow_run` alone, if given) as Crashed. Returns how many."""
    gone = FlowRunFilter(
        id=FlowRunFilterId(any_=[flow_run]) if flow_run else None,
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=GONE)),
    )
    living = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=LIVING)))
    ended = 0
    while page := client.read_task_runs(flow_run_filter=gone, task_run_filter=living, limit=PAGE):
        for run in page:
            client.set_task_run_state(run.id, Crashed(message="Its flow run ended without it: the process was killed, or its machine lost."), force=True)
        ended += len(page)
    return ended
