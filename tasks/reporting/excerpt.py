"""What a person wants to see of a run at a glance, as Markdown: its figures, and what its models answer before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks import show
from tasks.reporting.figures import objects_of
from tasks.stage import Made, Run

SAMPLES = 5  # prompts whose answers are shown
UNANSWERED = "(no answer: the prompt does not fit the model)"


def show_samples(made: Mapping[str, Made], run: Run) -> None:
    """The answers on the run's page in the UI; nothing where no model has answered yet."""
    if shown := samples(made, run):
        show.page("samples", shown, "the same prompts, answered by each model")


def figures(made: Mapping[str, Made]) -> str:
    """The stages' figures, as a Markdown table."""
    rows = ["| stage | figure | value |", "|---|---|---:|"]
    for name, stage in made.items():
        numbers = {key: value for key, value in stage.metrics.items() if isinstance(value, int | float)}
        rows += [f"| {name} | {key} | {value:.4g} |" for key, value in numbers.items()]
    return "\n".join(rows)


def samples(made: Mapping[str, Made], run: Run) -> str:
    """Some answers of the last stage that has left any, as a Markdown table: the evaluation's of every model, or an alignment
    stage's with their rewards. Empty where no model has answered yet."""
    store = run.open_store()
    for name in reversed(list(made)):
        try:
            lines = objects_of(store.read(made[name].artifact, "samples.jsonl").decode())
        except FileNotFoundError:
            continue
        answers = [(line["prompt"], by, text) for line in lines[-SAMPLES:] for by, text in _answers(name, line)]
        if answers:
            rows = ["| prompt | answered by | answer |", "|---|---|---|"]
            return "\n".join([*rows, *("| " + " | ".join(map(_cell, row)) + " |" for row in answers)])
    return ""


def _answers(stage: str, line: Mapping[str, Any]) -> list[tuple[str, str]]:
    if isinstance(line.get("answers"), dict):
        return [(model, UNANSWERED if answer is None else answer) for model, answer in line["answers"].items()]
    return [(f"{stage} (reward {line['reward']})", line["response"])] if "response" in line else []


def _cell(text: str) -> str:
    short = " ".join(text.split()).replace("|", "\\|")
    return short if len(short) <= 200 else short[:199] + "…"
