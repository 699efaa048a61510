"""Answers of a model in figures: right, finished, long, varied. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_core.dataset.records import Record
from rlhf_core.measures.statistics import mean_interval, wilson
from rlhf_core.measures.text_measures import distinct_n, exact_match, repeats_itself, self_bleu


@dataclass(frozen=True)
class Answer:
    """`ids`: what was generated, the end token included; `text`: without special tokens and outer blanks."""

    text: str
    ids: list[int]
    finished: bool


Answers = Sequence[Answer | None]  # None: the prompt did not fit the model's context


def is_right(answer: Answer | None, prompt: Record) -> bool:
    return answer is not None and exact_match(answer.text, prompt.reference or "")


def exact_matches(answers: Answers, questions: Sequence[Record]) -> dict[str, Any]:
    """Share of right answers with Wilson's interval, in all and by language; a question that was not asked is not right."""
    right = [is_right(answer, question) for answer, question in zip(answers, questions, strict=True)]
    figures = _share("exact_match", right)
    for lang in sorted({question.lang for question in questions if question.lang}):
        own = [r for r, question in zip(right, questions, strict=True) if question.lang == lang]
        figures |= {f"exact_match_{lang}": sum(own) / len(own)}
    return figures


def describe(answers: Answers, preferred_pattern: str | None) -> dict[str, Any]:
    """Variety, length in tokens and form of answers; nothing where there is none."""
    given = [answer for answer in answers if answer is not None]
    if not given:
        return {}
    figures: dict[str, Any] = {
        "answers": len(given),
        "distinct_1": distinct_n([a.ids for a in given], 1),
        "distinct_2": distinct_n([a.ids for a in given]),
        "length": sum(len(a.ids) for a in given) / len(given),
        "finished_share": sum(a.finished for a in given) / len(given),
        "repeating_share": sum(repeats_itself(a.ids) for a in given) / len(given),
    }
    if preferred_pattern:
        figures["preferred_share"] = sum(bool(re.search(preferred_pattern, a.text)) for a in given) / len(given)
    return figures


def describe_sampled(
    answers: Sequence[Answers], prompts: Sequence[Record], preferred_pattern: str | None
) -> dict[str, Any]:
    """Figures of several drawn answers to each prompt. Self-BLEU is that of one prompt's answers, averaged over prompts."""
    figures = describe([answer for own in answers for answer in own], preferred_pattern)
    alike = [self_bleu([answer.ids for answer in own if answer is not None]) for own in answers]
    known = [value for value in alike if value is not None]
    if known:
        figures["self_bleu"] = sum(known) / len(known)
    keyed = [(own, prompt) for own, prompt in zip(answers, prompts, strict=True) if prompt.reference]
    right = [is_right(answer, prompt) for own, prompt in keyed for answer in own]
    if right:
        figures["exact_match"] = sum(right) / len(right)
    return figures


def _share(name: str, values: Sequence[bool]) -> dict[str, Any]:
    if not values:
        return {}
    estimate = wilson(sum(values), len(values))
    return {name: estimate.value, f"{name}_interval": [estimate.low, estimate.high]}


def mean_figures(name: str, values: Sequence[float]) -> dict[str, Any]:
    """{name: mean, name_interval: [low, high]}; nothing without values, and no interval of a single one."""
    if not values:
        return {}
    estimate = mean_interval(values)
    return {name: estimate.value} | ({f"{name}_interval": [estimate.low, estimate.high]} if len(values) > 1 else {})


def grouped_mean_figures(name: str, groups: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The same of values that hang together, as several answers to one prompt do: the mean is that of all values, its interval
    that of as many items as there are groups (ratio estimator; Cochran 1977, section 6.3, with each group an item of its sum)."""
    filled = [list(group) for group in groups if group]
    size = sum(map(len, filled)) / max(1, len(filled))
    mean = sum(map(sum, filled)) / max(1, sum(map(len, filled)))
    return mean_figures(name, [mean + sum(value - mean for value in group) / size for group in filled])


def side_by_side(
    answers: Mapping[str, Answers], records: Sequence[Record], set_name: str, wanted: int, rewards: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    """`wanted` lines spread over the records: {"id", "set", "lang", "prompt", "reference", "answers", "rewards"}, the last two by model;
    an answer is None where the prompt did not fit the model."""
    step = max(1, len(records) // max(1, wanted))
    return [
        {
            "id": records[i].id,
            "set": set_name,
            "lang": records[i].lang,
            "prompt": records[i].turns[-1].text,
            "reference": records[i].reference,
            "answers": {name: None if (answer := own[i]) is None else answer.text for name, own in answers.items()},
            "rewards": {name: own[i] for name, own in rewards.items() if own[i] is not None},
        }
        for i in list(range(0, len(records), step))[:wanted]
    ]
