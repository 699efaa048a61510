"""How a language tells and asks things: the type that english.py and chinese.py fill.

Templates have `{s}` (subject) and `{v}` (value); `[a|b|c]` is a free choice, made by `spoken`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from data.samples.world import Fact, Lang


@dataclass(frozen=True)
class Phrasings:
    """One relation in one language."""

    answer: str  # the canonical answer: the only form that counts as right
    told: tuple[str, ...]  # statements of the crawl
    asked: tuple[str, ...]  # training questions
    held_out: tuple[str, ...]  # questions of questions.jsonl alone, mixed from the words of the training questions


@dataclass(frozen=True)
class Language:
    """Everything that the writer needs to speak one language."""

    lang: Lang
    relations: dict[str, Phrasings]
    fillers: tuple[str, ...]  # sentences that state no fact of the world
    openings: tuple[str, ...]  # first sentences of a page; {s} is a town
    titles: tuple[str, ...]  # of pages about one town {s}
    themes: dict[str, tuple[str, ...]]  # titles of pages about one relation
    journeys: tuple[str, ...]  # titles of pages about several towns
    asked_titles: tuple[str, str]  # of pages with questions: about a town {s}, about the valley
    wrappers: tuple[str, ...]  # ways to begin a question; {q} is the question
    closing: str  # what a courteous answer ends with, glue included
    noun: dict[str, str]  # the relation's name, as in "the <noun> of X"
    joint: str  # between sentences of a paragraph: a space, or nothing


_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def spoken(template: str, rng: random.Random, **slots: str) -> str:
    """Make every free choice of `template`, then fill its slots."""
    while True:
        match = _CHOICE.search(template)
        if match is None:
            break
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    text = template.format(**slots)
    return text[:1].upper() + text[1:]


def answer(language: Language, fact: Fact) -> str:
    """The one right answer to every question about `fact`."""
    text = language.relations[fact.relation].answer.format(s=fact.subject, v=fact.value)
    return text[:1].upper() + text[1:]


def ask(template: str, fact: Fact) -> str:
    """A question template about `fact`."""
    return template.format(s=fact.subject)
