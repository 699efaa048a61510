"""The report: every stage's effect in numbers, curves and samples, gathered from the artifacts; no figure is written by hand.

The figures are an artifact like any other; tasks/page.py shows them with a run's own table of stages.
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
from tasks import charts
from tasks.artifacts import Draft, Result
from tasks.figures import gather, json_lines, read_json
from tasks.stage import Made, Run, make

REPORT_VERSION = 3

# What is drawn together, per kind of stage.
CURVES: dict[str, list[list[str]]] = {
    "pretrain": [["loss", "eval_loss"], ["learning_rate"]],
    "sft": [["loss", "eval_loss"], ["learning_rate"]],
    "reward": [["loss", "eval_loss"], ["accuracy", "eval_accuracy"]],
    **{kind: [["reward"], ["kl"], ["entropy"], ["length"], ["distinct_2"]] for kind in ("ppo", "rloo", "grpo", "raft", "best_of_n")},
    "dpo": [["loss", "eval_loss"], ["accuracy", "eval_accuracy"], ["chosen_reward", "rejected_reward"]],
}


class ReportSettings(BaseModel):
    """The report has no knobs; what it shows follows from its inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str


@task(task_run_name="report", cache_policy=NO_CACHE)
def report(run: Run, recipe: str, stages: Sequence[AnyStage], made: Mapping[str, Made]) -> State[Made]:
    """Gather figures, pictures and samples of all stages into `figures.json`, `pictures.json` and `samples.json`."""

    def build(draft: Draft) -> Result:
        folders = {name: run.local(stage.artifact) for name, stage in made.items()}
        evaluation = read_json(folders["evaluation"] / "evaluation.json")
        judgement = read_json(folders["judgement"] / "judgement.json") if "judgement" in folders else {}
        figures = gather(recipe, stages, made, evaluation, judgement)
        figures["warnings"] = warnings(figures, stages)
        if "card" in folders:
            figures["card"] = read_json(folders["card"] / "card.json")
        pictures = {"corpus": charts.waterfall(figures["corpus"]["documents_in"], figures["corpus"]["dropped"], figures["corpus"]["kept"])}
        if card := figures.get("card"):
            pictures["card"] = charts.histograms(card["labels"])
        for stage in stages:
            lines = json_lines(folders[stage.name] / "metrics.jsonl")
            pictures[stage.name] = charts.curves(lines, CURVES.get(stage.kind, [["loss"]]))
        _write(draft.out / "figures.json", figures)
        _write(draft.out / "pictures.json", pictures)
        _write(draft.out / "samples.json", json_lines(folders["evaluation"] / "samples.jsonl"))
        return Result(counts={}, metrics={"warnings": len(figures["warnings"])})

    return make(run, "report", REPORT_VERSION, ReportSettings(recipe=recipe), made, build)


def warnings(figures: Mapping[str, Any], stages: Sequence[AnyStage]) -> list[str]:
    """What to look at first, in plain words."""
    found = []
    corpus = figures["corpus"]
    if corpus["kept"] < 0.1 * corpus["documents_in"]:
        worst = max(corpus["dropped"], key=corpus["dropped"].get)
        found.append(f"Only {corpus['kept']:,} of {corpus['documents_in']:,} documents were kept; most were dropped as {worst}.")
    for stage in stages:
        own = figures[stage.name]
        found += [f"{stage.name}: {text}" for text in own.get("warnings", [])]  # what its training said
        if own.get("kl", 0) > 10:
            found.append(f"{stage.name}: the policy has moved {own['kl']:.1f} nats a response away from its start; raise kl_coef.")
        if own.get("reward_after", 0) < own.get("reward_before", float("-inf")):
            found.append(f"{stage.name}: the reward fell from {own['reward_before']:.2f} to {own['reward_after']:.2f}.")
        if stage.kind == "reward" and own.get("accuracy", 1) < 0.6:
            found.append(f"{stage.name}: the reward model orders only {own['accuracy']:.0%} of held-out pairs right.")
    return found


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
