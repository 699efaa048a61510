"""The report: every stage's effect in numbers, curves and samples, gathered from the artifacts; no figure is written by hand.

The figures are an artifact like any other; tasks/reporting/page.py shows them with a run's own table of stages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from pydantic import BaseModel, ConfigDict

from rlhf_core.settings import AnyStage
from tasks.reporting.figures import gather, json_lines, read_json
from tasks.reporting.findings import warnings
from tasks.reporting.way import way
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Result

REPORT_VERSION = 6


class ReportSettings(BaseModel):
    """The report has no knobs; what it shows follows from its inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str


@task(task_run_name="report", cache_policy=NO_CACHE)
def report(run: Run, recipe: str, stages: Sequence[AnyStage], made: Mapping[str, Made]) -> State[Made]:
    """Gather figures, pictures and samples of all stages into `figures.json`, `pictures.json` and `samples.json`."""

    def build(draft: Draft) -> Result:
        from tasks.reporting.pictures import curves, draw  # late: a reused report needs no matplotlib

        folders = {name: run.local(stage.artifact) for name, stage in made.items()}
        evaluation = read_json(folders["evaluation"] / "evaluation.json")
        judgement = read_json(folders["judgement"] / "judgement.json") if "judgement" in folders else {}
        figures = gather(recipe, stages, made, evaluation, judgement) | {"way": way(stages, made)}
        figures["warnings"] = warnings(figures, stages)
        figures["curves"] = {stage.name: curves(stage.kind, folders[stage.name] / "metrics.jsonl") for stage in stages}
        if "card" in folders:
            figures["card"] = read_json(folders["card"] / "card.json")
        pictures = draw(figures, stages)
        _write(draft.out / "figures.json", figures)
        _write(draft.out / "pictures.json", pictures)
        _write(draft.out / "samples.json", json_lines(folders["evaluation"] / "samples.jsonl"))
        return Result(counts={}, metrics={"warnings": len(figures["warnings"])})

    return make(run, "report", REPORT_VERSION, ReportSettings(recipe=recipe), made, build)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
