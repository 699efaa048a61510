"""What the server does by itself: a run whose worker was lost is marked Crashed instead of Running, or Pending, for ever."""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

SILENT_SECONDS = 70  # two heartbeats of 30 s (prefect.yaml) and some
STARTING_SECONDS = 300  # a worker's process imports the flow in ten seconds; on a busy machine, from a network's disk, in minutes
NO_SIGN_OF_LIFE = "No sign of life: its worker or machine was lost."
NEVER_BEGUN = "Taken by a worker and never begun: the worker or its machine was lost."

_EVENT = "prefect.flow-run."
_TAKEN = {f"{_EVENT}{state}" for state in ("Pending", "Submitting", "InfrastructurePending")}  # by a worker; these hold a pool's slot
_STARTED = {
    f"{_EVENT}{state}"
    for state in ("Running", "Completed", "Failed", "Crashed", "Cancelling", "Cancelled", "Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot")
} | {f"{_EVENT}heartbeat"}


def wanted() -> list[AutomationCore]:
    return [
        _crashes(
            "crawl2chat: lost workers",
            "A flow run that stopped saying that it lives is Crashed.",
            after={f"{_EVENT}heartbeat"},
            expect={f"{_EVENT}*"},  # another, or an end
            within=SILENT_SECONDS,
            message=NO_SIGN_OF_LIFE,
        ),
        _crashes(
            "crawl2chat: runs that never began",
            "A flow run that a worker took and did not begin is Crashed; it would hold its pool's slot for ever.",
            after=_TAKEN,
            expect=_STARTED,
            within=STARTING_SECONDS,
            message=NEVER_BEGUN,
        ),
    ]


def _crashes(name: str, description: str, after: set[str], expect: set[str], within: float, message: str) -> AutomationCore:
    """A flow run is Crashed when none of `expect` follows one of `after` within so many seconds."""
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)],
    )


def install(client: SyncPrefectClient) -> None:
    """Create the automations, or bring them up to date."""
    for automation in wanted():
        present = list(client.read_automations_by_name(automation.name))
        for one in present:
            client.update_automation(one.id, automation)
        if not present:
            client.create_automation(automation)
