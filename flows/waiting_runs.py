"""Flow runs that wait for a person have no process: when the server takes one for lost, it is mistaken."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.automations import NEVER_BEGUN, NO_SIGN_OF_LIFE

PAGE = 200  # the API's own limit


def suspend_again(client: SyncPrefectClient) -> int:
    """Suspend the runs that were marked Crashed as lost (automations.py) while they waited. Returns how many.

    It happens where the event of the suspension comes before a last heartbeat, or is lost: a busy server on SQLite gives an event up that
    its triggers failed four times to write down ("database is locked"; prefect/server/utilities/messaging/memory.py).
    """
    crashed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])))
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=crashed, limit=PAGE, offset=len(found)):
        found += page
    restored = 0
    for run in found:
        if run.state is not None and run.state.message in (NO_SIGN_OF_LIFE, NEVER_BEGUN) and (waiting := _suspension(client, run)):
            client.set_flow_run_state(run.id, waiting, force=True)
            restored += 1
    return restored


def _suspension(client: SyncPrefectClient, run: FlowRun) -> State | None:
    """The suspension that the run's crash ended, as a state to go back to; None where it was no suspension."""
    *_, before, _ = [None, *sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)]
    if before is None or before.type != StateType.PAUSED or not before.state_details.pause_reschedule:
        return None
    return State(type=before.type, name=before.name, message=before.message, state_details=before.state_details)
