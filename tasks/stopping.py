"""When a training stage is not worth its end: a search ends a trial that does worse than the ones before it.

The rule is made before the trial begins and travels with the run, so it holds in whatever pool the stage is trained.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STOPPED_EARLY = "StoppedEarly"  # the state of a run, and of its task, that was not worth its end
ENOUGH = 3  # curves that a median needs


class Poor(RuntimeError):
    """The stage was ended because it did worse than those before it; the message says at which step."""


class StopRule(BaseModel):
    """What a stage must reach at each step: the median of those before it (Golovin et al. 2017, Vizier, section 3.2)."""

    model_config = ConfigDict(frozen=True)

    stage: str = Field(description="The training stage that is watched.")
    figure: str = Field(description="The figure of its metrics that is compared.")
    better: Literal["higher", "lower"] = Field(description="Which way the figure is better.")
    medians: dict[int, float] = Field(default_factory=dict, description="Step -> the median of earlier trials there.")

    def check(self, stage: str, line: Mapping[str, Any]) -> None:
        """Raises Poor where `line`, which a job of `stage` reported, is worse than the median at its step."""
        value = line.get(self.figure)
        if stage != self.stage or not isinstance(value, int | float):
            return
        median = self.medians.get(int(line["step"]))
        if median is not None and (value < median if self.better == "higher" else value > median):
            raise Poor(f"{stage}.{self.figure} = {value:.4g} at step {line['step']} is worse than the median, {median:.4g}")


def medians(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Step -> median of the curves (step -> value) that have reached it, where there are ENOUGH. Not of a curve's last step: who is
    there has nothing left to save, and its value is worth keeping."""
    steps = {step for curve in curves for step in curve if step < max(curve)}
    reached = {step: [curve[step] for curve in curves if step in curve] for step in sorted(steps)}
    return {step: statistics.median(values) for step, values in reached.items() if len(values) >= ENOUGH}
