"""A flow is an ordered table of steps, from a stage's name to the call of its task; this walks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tasks.stage import Made

Step = Callable[[dict[str, Made]], Any]
Steps = Mapping[str, Step]


def walk(steps: Steps, made: dict[str, Made], until: str | None) -> dict[str, Made]:
    """Run the steps in order, each with what was made before it; stop after the one called `until`.

    A failed step raises with the step's own reason, and nothing after it runs.
    """
    made = dict(made)
    for name, step in steps.items():
        made[name] = step(made).result()  # a task called directly hands back its final state
        if name == until:
            break
    return made
