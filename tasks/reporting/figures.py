"""What was measured of each stage, brought together from the artifacts: report.json's figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_core.settings import AnyStage
from tasks.stage import Made

CORPUS_STAGES = ("ingest", "urls", "rough_language", "extraction", "lines", "corpus")  # those that drop documents
SECTIONS = ("recipe", "corpus", "card", "way", "evaluation", "judgement", "warnings", "curves", "samples", "settings", "stages")  # report.json beside the stages
_POINTS = 500  # of a curve; more are not seen, and a page with a long run's would be megabytes
TEACHER_FIGURES = ("teacher_calls", "teacher_tokens_in", "teacher_tokens_out", "teacher_cost")


def gather(
    recipe: str, stages: Sequence[AnyStage], made: Mapping[str, Made], evaluation: Mapping[str, Any], judgement: Mapping[str, Any]
) -> dict[str, Any]:
    """The measured part of report.json: `corpus`, one entry per training stage by its name, what the evaluation says of all, with
    models that the recipe did not make (`evaluation`), and `judgement`."""
    figures: dict[str, Any] = {"recipe": recipe, "corpus": corpus_figures(made)}
    for stage in stages:
        measured = {**made[stage.name].metrics, **of_model(stage.kind, stage.name, evaluation, judgement)}
        figures[stage.name] = {name: value for name, value in measured.items() if value is not None}  # null: not measured
    figures["evaluation"] = {key: evaluation[key] for key in ("questions", "prompts", "knowledge", "drift", "warnings", "problems") if key in evaluation}
    figures["evaluation"]["others"] = {name: own for name, own in evaluation["models"].items() if own.get("kind") == "other"}
    figures["judgement"] = dict(judgement)
    return figures


def trained(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of every training stage, by its name, in order."""
    return {name: value for name, value in figures.items() if name not in SECTIONS}


def answering(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of every model that answers, by its name: those beside the recipe (as the one before its vocabulary was extended),
    then the recipe's own."""
    own = {name: one for name, one in trained(figures).items() if one.get("kind", "reward") != "reward"}
    return {**figures["evaluation"].get("others", {}), **own}


def of_model(kind: str, name: str, evaluation: Mapping[str, Any], judgement: Mapping[str, Any]) -> dict[str, Any]:
    """What the evaluation and the judges say of a stage's model, and of its comparison with the model before it."""
    found = dict(evaluation["models"].get(name, {}))
    if kind == "reward":
        found |= {key: value for key, value in (evaluation.get("reward_model") or {}).items() if key != "model"}
    for section in ("sft", "ppo"):
        own = evaluation.get(section) or {}
        if own.get("model") == name:
            found |= {key: value for key, value in own.items() if key != "model"}
    return found | {
        win_rate_name(judge, criterion): tally["win_rate"]["value"]
        for judge, models in judgement.get("judges", {}).items()
        for criterion, tally in models.get(name, {}).items()
        if tally["win_rate"]
    }


def win_rate_name(judge: str, criterion: str) -> str:
    """The figure's name: `win_rate` by rule, `win_rate_reward`, `win_rate_teacher`, `win_rate_teacher_tone`."""
    return "_".join(["win_rate", *([] if judge == "rule" else [judge]), *([] if criterion == "overall" else [criterion])])


def corpus_figures(made: Mapping[str, Made]) -> dict[str, Any]:
    """Documents in, kept and dropped by reason; they add up."""
    dropped: dict[str, int] = {}
    for name in CORPUS_STAGES:
        for reason, count in made[name].counts["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    counts = {"documents_in": made["ingest"].counts["documents_in"], "kept": made["corpus"].counts["kept"], "dropped": dropped}
    return counts | made["corpus"].metrics


def numbers(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested figures by its dotted path; truth values and lists are no numbers."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, float(value)


def thinned(lines: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[dict[str, float]]:
    """What is drawn of curves: `step` and `names` of all lines; of many, each the mean of neighbouring ones at the step of the last."""
    size = max(1, -(-len(lines) // _POINTS))
    return [_mean(lines[start : start + size], names) for start in range(0, len(lines), size)]


def _mean(lines: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    known = {name: [line[name] for line in lines if name in line] for name in names}
    return {"step": lines[-1]["step"]} | {name: sum(values) / len(values) for name, values in known.items() if values}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none where there is no file."""
    return objects_of(path.read_text(encoding="utf-8")) if path.exists() else []


def objects_of(text: str) -> list[dict[str, Any]]:
    """The objects of JSON lines. A line ends with \\n alone: texts in it hold other ends (U+2028, U+0085), which JSON does not escape."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; an empty one where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
