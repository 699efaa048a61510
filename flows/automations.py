"""What the server does by itself: a run whose worker was lost is marked Crashed instead of Running for ever."""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

SILENT_SECONDS = 70  # two heartbeats of 30 s (prefect.yaml) and some


def lost_workers() -> AutomationCore:
    """A run that has sent a heartbeat and then neither another nor an end within SILENT_SECONDS."""
    return AutomationCore(
        name="crawl2chat: lost workers",
        description="A flow run that stopped saying that it lives is Crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                "prefect.flow-run.Completed",
                "prefect.flow-run.Failed",
                "prefect.flow-run.Cancelled",
                "prefect.flow-run.Crashed",
                "prefect.flow-run.Suspended",
                "prefect.flow-run.*",
            },
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message="No sign of life: its worker or machine was lost.")
        ],
    )


def install(client: SyncPrefectClient) -> None:
    """Create the automations, or bring them up to date."""
    wanted = lost_workers()
    present = list(client.read_automations_by_name(wanted.name))
    for one in present:
        client.update_automation(one.id, wanted)
    if not present:
        client.create_automation(wanted)
