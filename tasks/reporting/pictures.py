"""The report's pictures by name, drawn from its figures and from the stages' own curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_core.settings import AnyStage
from tasks.reporting import charts, evaluation_charts
from tasks.reporting.figures import answering, json_lines, thinned

# What is drawn together, per kind of stage.
CURVES: dict[str, list[list[str]]] = {
    "pretrain": [["loss", "eval_loss"], ["learning_rate"]],
    "sft": [["loss", "eval_loss"], ["learning_rate"]],
    "reward": [["loss", "eval_loss"], ["accuracy", "eval_accuracy"]],
    **{kind: [["reward"], ["kl"], ["entropy"], ["length"], ["distinct_2"]] for kind in ("ppo", "rloo", "grpo", "raft", "best_of_n")},
    "dpo": [["loss", "eval_loss"], ["accuracy", "eval_accuracy"], ["chosen_reward", "rejected_reward"]],
}


def curves(kind: str, metrics: Path) -> list[dict[str, float]]:
    """What is drawn of a stage, from its metrics.jsonl: `step` and the drawn figures, so many lines as are seen."""
    return thinned(json_lines(metrics), [name for group in _groups(kind) for name in group])


def _groups(kind: str) -> list[list[str]]:
    return CURVES.get(kind, [["loss"]])


def draw(figures: Mapping[str, Any], stages: Sequence[AnyStage]) -> dict[str, str]:
    """SVG texts: `way`, `waterfall`, `card`, `curves.STAGE`, and what was measured of the models; what has no data is left out."""
    corpus = figures["corpus"]
    found = {
        "way": evaluation_charts.way(**figures["way"]),
        "waterfall": charts.waterfall(corpus["documents_in"], corpus["dropped"], corpus["kept"]),
    }
    if card := figures.get("card"):
        found["card"] = charts.histograms(card["labels"])
    for stage in stages:
        found[f"curves.{stage.name}"] = charts.curves(figures["curves"][stage.name], _groups(stage.kind))
    models = answering(figures)
    if bits := _bits(models):
        found["bits"] = evaluation_charts.grouped_bars(bits, "bits per byte")
    if known := list(_knowledge(models)):
        guess = [own["chance"] for own in figures["evaluation"].get("knowledge", {}).values() if own.get("chance")]
        found["knowledge"] = evaluation_charts.intervals(known, "share of questions answered right", guess[0] if guess else None)
    if rates := list(_win_rates(figures["judgement"])):
        found["judges"] = evaluation_charts.intervals(rates, f"win rate against {figures['judgement']['baseline']}, ties half", 0.5)
    if drift := _drift(figures["evaluation"].get("drift", {})):
        found["drift"] = evaluation_charts.reward_against_kl(drift)
    for stage in stages:
        if stage.kind == "reward" and (bins := figures[stage.name].get("reliability")):
            found["reliability"] = evaluation_charts.reliability(bins)
    return found


def _bits(models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """{language: {model: bits per byte}}"""
    found: dict[str, dict[str, float]] = {}
    for model, figures in models.items():
        for lang, own in figures.get("language_model", {}).items():
            found.setdefault(lang, {})[model] = own["bits_per_byte"]
    return found


def _knowledge(models: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for model, figures in models.items():
        for name, own in figures.get("knowledge", {}).items():
            if own.get("interval"):
                yield {"label": f"{name} · {model}", "group": name, "value": own["accuracy"], "low": own["interval"][0], "high": own["interval"][1]}


def _win_rates(judgement: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for judge, models in judgement.get("judges", {}).items():
        for model, criteria in models.items():
            for criterion, tally in criteria.items():
                if rate := tally["win_rate"]:
                    label = f"{model} · {judge}" + (f" · {criterion}" if criterion != "overall" else "")
                    yield {"label": label, "group": judge, **{key: rate[key] for key in ("value", "low", "high")}}


def _drift(drift: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{picture: {curve: points}}. Rewards on training prompts have units of their own; on held-out prompts the stages and best-of-N
    share a picture."""
    stages = drift.get("stages", {})
    held_out = {stage: own["held_out"] for stage, own in stages.items() if len(own.get("held_out", ())) > 1}
    if best := drift.get("best_of_n"):
        held_out[f"best of N by {best['model']}"] = best["points"]
    training = {f"{stage}, training": {stage: thinned(own["training"], ("kl", "reward"))} for stage, own in stages.items() if len(own.get("training", ())) > 1}
    return ({"held-out prompts": held_out} if held_out else {}) | training
