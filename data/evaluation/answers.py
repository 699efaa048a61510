"""Answers of several models to the same prompts, paired for comparison. Read from an evaluation's answers.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.evaluation.settings import JudgementSettings


@dataclass(frozen=True)
class Answer:
    """One model's greedy answer. `text` is None where the prompt did not fit the model, `right` where no right answer is known,
    `reward` where no reward model scored it."""

    model: str
    text: str | None
    finished: bool
    repeating: bool
    right: bool | None
    reward: float | None


@dataclass(frozen=True)
class Pair:
    """A prompt with the answers of the judged model and of the baseline. Only answered ones can be compared."""

    id: str
    set: str
    lang: str | None
    prompt: str
    reference: str | None
    model: Answer
    baseline: Answer

    @property
    def is_answered(self) -> bool:
        return self.model.text is not None and self.baseline.text is not None


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The lines of answers.jsonl: {"id", "set", "lang", "prompt", "reference", "model", "text", "finished", "repeating",
    "right", "reward", ...}.

    Raises:
        ValueError: names the line that is none of these.
    """
    lines = []
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            line = json.loads(text)
            if not isinstance(line, dict) or not {"id", "set", "prompt", "model", "text"} <= line.keys():
                raise ValueError(f"{path}, line {number}: an answer has id, set, prompt, model and text")
            lines.append(line)
    return lines


def pairs(answers: Sequence[Mapping[str, Any]], baseline: str, settings: JudgementSettings) -> Iterator[Pair]:
    """Every other model's answers beside the baseline's, model by model in the file's order; prompts that one of them was not given
    are left out, those that it could not answer are not."""
    models = dict.fromkeys(str(line["model"]) for line in answers)
    by_place = {(line["set"], line["id"], line["model"]): line for line in answers}
    places = dict.fromkeys((line["set"], line["id"]) for line in answers if line["set"] in settings.sets)
    chosen: list[tuple[str, str]] = []
    for name in settings.sets:
        chosen += [place for place in places if place[0] == name][: settings.max_prompts]
    for model in models:
        for place in chosen if model != baseline else ():
            own, other = by_place.get((*place, model)), by_place.get((*place, baseline))
            if own is not None and other is not None:
                yield Pair(place[1], place[0], own.get("lang"), own["prompt"], own.get("reference"), _answer(own), _answer(other))


def _answer(line: Mapping[str, Any]) -> Answer:
    return Answer(line["model"], line["text"], bool(line.get("finished", True)), bool(line.get("repeating", False)), line.get("right"), line.get("reward"))
