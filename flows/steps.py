"""A flow is an ordered table of steps, from a stage's name to the call of its task; this walks it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from prefect.runtime import flow_run

from tasks import this_run
from tasks.stage import Made, Run
from tasks.stopping import STOPPED_EARLY, Poor
from tasks.store import handover

Step = Callable[[dict[str, Made]], Any]
Steps = Mapping[str, Step]


def reuse(steps: Steps, made: Mapping[str, Made], until: str | None) -> tuple[dict[str, Made], bool]:
    """What is in the store already, in order up to the first step that is missing, and whether none was.

    `steps` are those of a run with `reuse_only`.
    """
    made = dict(made)
    for name, step in steps.items():
        if name not in made:
            if (found := step(made).result()) is None:
                return made, False
            made[name] = found
        if name == until:
            break
    return made, True


def unknown_stages(names: Collection[str], force: Iterable[str], until: str | None) -> list[str]:
    """What is wrong with the names of stages that a run is given: one message each."""
    given = [("until", until)] if until is not None else []
    return [f"{key}: no stage {stage!r}; stages: {', '.join(names)}" for key, stage in [*given, *(("force", one) for one in sorted(force))] if stage not in names]


def walk(run: Run, steps: Steps, made: Mapping[str, Made], until: str | None) -> dict[str, Made]:
    """Run the steps that are not made yet, in order, each with what was made before it; stop after the one called `until`.

    Raises ValueError where no step is called so, or as `run.force` says: the run would go to its end, and make nothing again.
    A failed step raises with the step's own reason, one that `run.stop` ends raises Poor, and nothing after it runs. In a run of a
    deployment, what was made is also left in the store for the run that waits for this one.
    """
    if wrong := unknown_stages(steps, run.force, until):
        raise ValueError("; ".join(wrong))
    made = dict(made)
    for name, step in steps.items():
        if name not in made:
            state = step(made)  # a task called directly hands back its final state
            if state.name == STOPPED_EARLY:
                raise Poor(state.message)
            made[name] = state.result()
        if name == until:
            break
    if this_run.is_deployed():
        handover.leave(run, flow_run.id, made)
    return made
