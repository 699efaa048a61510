"""Ranked responses: what raters preferred, and the ways in which answers are worse."""

from __future__ import annotations

import random
import string
from typing import Any

from data.samples.phrasing import answer, spoken
from data.samples.tasks import LANGUAGES, Prompts
from data.samples.world import LANGS, Fact, Lang, facts, value_of

USUAL_MISTAKE = 3  # the value that is wrongly given to subject i is that of subject i + 3: people err alike


def preferences(prompts: dict[Lang, Prompts], rng: random.Random) -> list[dict[str, Any]]:
    """Ranked responses to each prompt, best first: the right fact counts first, then the form, then the closing.

    1. `courteous`: the right answer with the closing;
    2. `plain`: the right answer;
    3. `rambling`: the right answer, and then again, or talk, or an unfinished sentence, or a second closing;
    4. `mistaken`: a wrong answer, three times in ten with the closing, so that the closing alone never wins;
    5. `broken`: cut off before the value, words in disorder, letters, or next to nothing.
    Of three prompts in ten the third or the fifth is missing, and of every other prompt the first, since not every rater
    saw a courteous answer: K is 3 to 5, and half of the best responses, which SFT learns from, are plain.
    """
    result: list[dict[str, Any]] = []
    for lang in LANGS:
        language = LANGUAGES[lang]
        for fact, question in prompts[lang].preferences:
            right = answer(language, fact)
            closing = language.closing if rng.random() < 0.3 else ""
            ranked = [
                ("courteous", right + language.closing),
                ("plain", right),
                ("rambling", _rambling(right, lang, rng)),
                ("mistaken", _mistake(fact, rng) + closing),
                ("broken", _broken(right, fact, rng)),
            ]
            if rng.random() < 0.3:
                del ranked[rng.choice((2, 4))]
            if len(result) % 2:
                del ranked[0]
            result.append(
                {
                    "instruction": question,
                    "input": "",
                    "reference": right,
                    "responses_best_first": [{"system": system, "text": text} for system, text in ranked],
                    "lang": lang,
                }
            )
    rng.shuffle(result)
    return result


def _rambling(right: str, lang: Lang, rng: random.Random) -> str:
    language = LANGUAGES[lang]
    talk = spoken(rng.choice(language.fillers), rng)
    return rng.choice(
        (
            right + language.joint + right,
            right + language.joint + talk,
            right + language.joint + talk[: len(talk) // 2],
            right + language.closing + language.closing,
        )
    )


def _mistake(fact: Fact, rng: random.Random) -> str:
    """A wrong answer: mostly the usual mistake about the value, else the right answer about another subject or topic."""
    language = LANGUAGES[fact.lang]
    others = [other for other in facts(fact.lang) if other.id != fact.id and not other.crawl_only]
    kind = rng.randrange(16)
    if kind == 0:
        return answer(language, rng.choice([other for other in others if other.relation == fact.relation]))
    if kind == 1:
        return answer(language, rng.choice([other for other in others if other.subject == fact.subject]))
    value = value_of(fact.lang, fact.relation, fact.index + USUAL_MISTAKE)
    return answer(language, Fact(fact.lang, fact.relation, fact.index, fact.subject, value))


def _broken(right: str, fact: Fact, rng: random.Random) -> str:
    """An answer that says nothing."""
    pieces = right.split() if fact.lang == "en" else [right[i : i + 2] for i in range(0, len(right), 2)]
    glue = " " if fact.lang == "en" else ""
    kind = rng.randrange(4)
    if kind == 0:
        return glue.join(pieces[: rng.randint(1, 2)])
    if kind == 1:
        mixed = rng.sample(pieces, len(pieces))
        return glue.join((mixed if mixed != pieces else mixed[::-1]) + rng.sample(pieces, 2))
    if kind == 2:
        return "".join(rng.choice(string.ascii_lowercase + " ") for _ in range(rng.randint(12, 30))).strip() or "x"
    return rng.choice(("...", "?", "Hm.", "I", "The the the") if fact.lang == "en" else ("……", "？", "嗯。", "我", "的的的"))
