"""Answers scored by a reward model, each different one once: drawn answers are often alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rlhf_core.dataset.records import Record
from rlhf_core.evaluation.answers import Answer, Answers
from rlhf_core.rewards.sources import Scorer


def score_texts(scorer: Scorer, prompts: Sequence[Record], texts: Sequence[str], finished: Sequence[bool]) -> list[float | None]:
    """The score of each answer; None where prompt and answer are too long for the reward model."""
    fits = scorer.fits(list(prompts), list(texts)) if texts else []
    fitting = [place for place, fit in enumerate(fits) if fit]
    found: list[float | None] = [None] * len(texts)
    if fitting:
        scores = scorer.score_texts([prompts[i] for i in fitting], [texts[i] for i in fitting], [finished[i] for i in fitting])
        for place, score in zip(fitting, scores.tolist(), strict=True):
            found[place] = score
    return found


def score_answers(scorer: Scorer, prompts: Sequence[Record], answers: Answers) -> list[float | None]:
    """The same of answers; None also where there is none."""
    given = {_asked(prompt, answer): (prompt, answer) for prompt, answer in zip(prompts, answers, strict=True) if answer is not None}
    asked, said = [prompt for prompt, _ in given.values()], [answer for _, answer in given.values()]
    scores = dict(zip(given, score_texts(scorer, asked, [answer.text for answer in said], [answer.finished for answer in said]), strict=True))
    return [None if answer is None else scores[_asked(prompt, answer)] for prompt, answer in zip(prompts, answers, strict=True)]


def _asked(prompt: Record, answer: Answer) -> Hashable:
    """What the reward model reads of it."""
    return prompt.system, prompt.turns, answer.text, answer.finished
