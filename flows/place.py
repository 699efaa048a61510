"""Where a part of the pipeline runs: in this process, or, if it needs a GPU and `run.gpu` says where, as a run of its own in that pool."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any
from uuid import UUID

from prefect import Flow, get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import MissingResult, ObjectNotFound, TerminationSignal
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelling

from flows import lost_tasks
from flows.recipe import Recipe
from flows.steps import reuse
from tasks.stage import Made, Run
from tasks.stopping import STOPPED_EARLY, Poor
from tasks.store import handover

LOST_WORKERS = 1  # a run whose worker was lost is started again so often; a run that failed by itself is not
POLL_SECONDS = 1.0
LIVING = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]


class PartFailed(RuntimeError):
    """A part that ran elsewhere ended badly; the message is its own reason."""


def run_part(part: ModuleType, recipe: Recipe, run: Run, made: Mapping[str, Made], until: str | None) -> dict[str, Made]:
    """Run `part.pipeline` in its place, and return what is made after it.

    Raises what the part raised, or PartFailed with its state's message where it ran elsewhere; Poor where it stopped early.
    """
    name = part.__name__.rsplit(".", 1)[-1]
    run = run.model_copy(update={"force": run.force & set(part.steps(recipe, run))})  # a part refuses what is none of its stages
    if run.gpu is None or name not in needing_gpu(recipe):
        return _walked_here(part, recipe, run, made, until)
    there, whole = in_the_store(part, recipe, run, made, until)
    if whole:
        return there  # no worker is asked for what lies in the store
    parameters = {
        "recipe": recipe.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "made": {stage: one.model_dump(mode="json") for stage, one in there.items()},
        "until": until,
    }
    deployment = f"{name}/{run.gpu}"
    for _ in range(1 + LOST_WORKERS):
        get_run_logger().info(f"{name}: waiting for a worker of deployment {deployment}")
        try:
            child: Any = run_deployment(deployment, parameters=parameters, as_subflow=True, poll_interval=POLL_SECONDS)
        except TerminationSignal:
            _cancel_with_this_run()
            raise
        except ObjectNotFound:
            raise PartFailed(f"{name}: this server has no deployment {deployment}; python -m flows.deploy applies them") from None
        if child.state is not None and child.state.name == STOPPED_EARLY:
            raise Poor(child.state.message)
        if child.state is not None and child.state.is_completed():
            try:
                return handover.take(run, str(child.id))
            except LookupError as missing:
                raise PartFailed(f"{name}: {missing}") from None
        if child.state is None or not child.state.is_crashed():
            break
        with get_client(sync_client=True) as client:
            lost_tasks.end(client, child.id)
    raise PartFailed(f"{name} ({deployment}, flow run {child.name}): {_reason(child.state)}")


def in_the_store(part: ModuleType, recipe: Recipe, run: Run, made: Mapping[str, Made], until: str | None) -> tuple[dict[str, Made], bool]:
    """What of `part` need not be made: `made` and the stages behind it up to the first that is missing; and whether none is up to `until`."""
    return reuse(part.steps(recipe, run.model_copy(update={"reuse_only": True})), made, until)


def _walked_here(part: ModuleType, recipe: Recipe, run: Run, made: Mapping[str, Made], until: str | None) -> dict[str, Made]:
    """In a run that goes on after a suspension, Prefect may take the part's first flow run for this one, of which it has kept no
    result: then the part is walked again, past what it left in the store."""
    walk = partial(part.pipeline, recipe, run, dict(made), until, return_state=True)
    try:
        return _outcome(walk())
    except MissingResult:
        return _outcome(walk())


def needing_gpu(recipe: Recipe) -> set[str]:
    """The parts that need a GPU: training, evaluation, and the instructions where a model on this project's own machines answers or
    judges. What asks a teacher's server needs none."""
    asks = (recipe.self_instruct, recipe.domain, recipe.sampled, recipe.judged)
    jobs = (recipe.answer_sampling, recipe.answer_scoring)
    local = any(one.teacher_local for one in asks) or bool(recipe.judged_prompts and any(one.model for one in jobs))
    return {"training", "evaluation"} | ({"instructions"} if local else set())


def _outcome(state: State[Any]) -> dict[str, Made]:
    if state.name == STOPPED_EARLY:
        raise Poor(state.message)
    return dict(state.result())


def _reason(state: State[Any] | None) -> str:
    if state is None:
        return "no state"
    return f"{state.name}: {state.message}" if state.message else str(state.name)


def _cancel_with_this_run() -> None:
    """Called by a dying process: if the run it was started for is being cancelled, what this part waits for is, now.

    The cancellation hook does the same, but Prefect runs it in a process of its own that first imports the flows.
    """
    with get_client(sync_client=True) as client:
        root = client.read_flow_run(UUID(this_run.root_flow_run_id))
        if root.state is not None and root.state.type in (StateType.CANCELLING, StateType.CANCELLED):
            _cancel_living(client, client.read_flow_run(UUID(this_run.id)))


def cancel_children(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancellation hook: what this run started in other pools ends with it."""
    with get_client(sync_client=True) as client:
        _cancel_living(client, flow_run)


def _cancel_living(client: SyncPrefectClient, parent: FlowRun) -> None:
    living = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=LIVING)),
    )
    for child in client.read_flow_runs(flow_run_filter=living):
        client.set_flow_run_state(child.id, Cancelling(message=f"{parent.name}, which waits for this run, was cancelled"))
