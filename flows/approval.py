"""A person looks before a stage starts: the run frees its process, shows the numbers, and goes on when told so."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks import show, this_run
from tasks.reporting import excerpt
from tasks.stage import Made, Run

WAIT_SECONDS = 14 * 24 * 3600  # Prefect's own hour is over before the person is back from lunch
PUBLISH = "publish"  # the one thing that can be approved beside the training stages


class Refused(RuntimeError):
    """A person said no."""


class Decision(RunInput):
    """What a person answers in the UI's form."""

    approve: bool = Field(False, description="Go on.")
    note: str = Field("", description="Why; kept with the run.")


def segments(names: Sequence[str], approve_before: Sequence[str]) -> list[tuple[str | None, str]]:
    """A part's stages cut before every stage that needs approval: (what to approve first, last stage of the segment)."""
    cuts = [position for position, name in enumerate(names) if name in approve_before]
    starts = sorted({0, *cuts})
    ends = [*starts[1:], len(names)]
    return [(names[start] if start in cuts else None, names[end - 1]) for start, end in zip(starts, ends, strict=True)]


def ask(stage: str, made: Mapping[str, Made], run: Run, first: str = "") -> None:
    """Wait for a person's decision about `stage`; raises Refused with their note. They see the figures and samples of what is made, and
    before them `first`, Markdown.

    In a run of a deployment the flow is suspended (its process ends; it starts again, reusing every artifact, when someone
    resumes it in the UI). On a terminal the question is asked there.
    """
    shown = "\n\n".join(filter(None, (first, excerpt.figures(made), excerpt.samples(made, run))))
    if this_run.is_deployed():
        page = f"# Approve {stage}?\n\n{shown}\n\nResume this run and say whether to go on."
        form = Decision.with_initial_data(description=page)
        decision = suspend_flow_run(wait_for_input=form, timeout=WAIT_SECONDS, key=f"approve-{stage}")
    elif sys.stdin.isatty():
        print(f"\n{shown}\n")
        answer = input(f"Start {stage}? [y/N] ").strip().lower()
        decision = Decision(approve=answer in ("y", "yes"))
    else:
        raise Refused(f"{stage} waits for a person's approval, and there is no one to ask: run it on a terminal or as a deployment")
    if not decision.approve:
        raise Refused(f"{stage} was refused{': ' + decision.note if decision.note else ''}")
    show.say(f"{stage}: approved{': ' + decision.note if decision.note else ''}")
