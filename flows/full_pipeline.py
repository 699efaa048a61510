"""Crawl -> chat model: the table of contents.

python -m flows.full_pipeline --recipe tiny
"""

from __future__ import annotations

from flows import temporary_server

if __name__ == "__main__":
    temporary_server.begin_for_command()

import sys
from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows import approval, command_line, corpus, evaluation, instructions, local, place, publish, training
from flows.definition import flow
from flows.recipe import Recipe, differences
from flows.steps import unknown_stages
from tasks.jobs import JobFailed
from tasks.reporting.excerpt import show_samples
from tasks.reporting.page import closing_table, report_paths, show_stages, write_run_report
from tasks.stage import Made, Run

PARTS = (corpus, instructions, training, evaluation)
REFUSED = "Refused"  # the state of a run that a person ended


@flow(name="full_pipeline", flow_run_name="{recipe.name}", on_cancellation=[place.cancel_children])
def full_pipeline(recipe: Recipe, run: Run, until: str | None = None) -> dict[str, Made] | State[Any]:
    """From a raw crawl to an aligned chat model. Every stage leaves an artifact in the store; what is there is reused.

    Args:
        recipe: inputs, and the settings of every stage.
        run: where artifacts lie, and how the work is done.
        until: the stage after which the run stops; null = it goes to its end.
    """
    try:
        return crawl_to_model(recipe, run, until)
    except approval.Refused as refusal:
        return Cancelled(name=REFUSED, message=str(refusal))


def crawl_to_model(recipe: Recipe, run: Run, until: str | None) -> dict[str, Made]:
    """The parts in order, then what a finished run leaves beside its artifacts: report, model card, the model in service.

    Raises ValueError where `until` or `run.force` names no stage of the recipe: from a form nobody else has looked.
    """
    if wrong := unknown_stages(stage_names(recipe, run), run.force, until):
        raise ValueError("; ".join(wrong))
    made = _walk_parts(recipe, run, until)
    show_stages(made)
    show_samples(made, run)
    if until in made:
        return made
    write_run_report(recipe.name, run, made, differences(recipe))
    publish.write_card(recipe, run, made)
    if recipe.publish:
        publish.publish(recipe, run, made)
    return made


def _walk_parts(recipe: Recipe, run: Run, until: str | None) -> dict[str, Made]:
    """Each part in its place; a person is asked where the recipe says so, unless what they would allow is there already."""
    made: dict[str, Made] = {}
    for part in PARTS:
        names = list(part.steps(recipe, run))
        for approve, last in approval.segments(names, recipe.approve_before):
            if approve:
                made, there = place.in_the_store(part, recipe, run, made, approve)
                if not there:
                    approval.ask(approve, made, run)
            here = names[: names.index(last) + 1]  # what lies behind it waits for its own approval
            made = place.run_part(part, recipe, run, made, until if until in here else last)
            if until in made:
                return made
    return made


def stage_names(recipe: Recipe, run: Run) -> list[str]:
    return [name for part in PARTS for name in part.steps(recipe, run)]


def main(arguments: list[str] | None = None) -> int:
    return run_from_command_line(lambda recipe, run, until: full_pipeline(recipe, run, until, return_state=True), arguments)


def run_from_command_line(
    call: Callable[[Recipe, Run, str | None], State[Any]], arguments: list[str] | None = None, can_stop: bool = True
) -> int:
    """Run a flow that goes the whole way in this process, or, where it `can_stop`, up to a stage; returns the exit status: 0, 1 failed,
    3 refused by a person."""
    options = command_line.parse(sys.argv[1:] if arguments is None else arguments, can_stop)
    recipe, run, until = options.checked(stage_names)
    try:
        local.begin(recipe.runner)
        local.ensure_server()
        state = call(recipe, run, until)
        if state.name == REFUSED:
            print(f"\nstopped: {state.message}", file=sys.stderr)
            return 3
        made = state.result()
    except (JobFailed, place.PartFailed, OSError, ValueError) as failure:
        print(f"\nerror: {failure}", file=sys.stderr)
        return 1
    if not made:
        print(f"\n{state.message}")
        return 0
    print(closing_table(made))
    if until is None:
        for name, path in report_paths(recipe.name, run, made).items():
            print(f"{name:11} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
