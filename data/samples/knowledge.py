"""The facts of the valley as multiple choice, in the files of C-Eval (Chinese) and of MMLU (English).

A subject is a relation. Two of its eight facts are the examples in dev/, six are asked; the wrong options are values of other
towns (or rivers), and every letter is right equally often, so that always saying A scores a quarter.
"""

from __future__ import annotations

import csv
import io
import random

from data.samples.chinese import CHINESE
from data.samples.english import ENGLISH
from data.samples.phrasing import Language, ask
from data.samples.world import RELATIONS, Fact, facts, value_of

_LETTERS = "ABCD"
_EXAMPLES = 2


def knowledge_files(seed: int) -> dict[str, bytes]:
    """Contents by path relative to data/samples."""
    rng = random.Random(seed)
    files: dict[str, bytes] = {}
    for language, split in ((ENGLISH, "test"), (CHINESE, "val")):
        letters = _balanced(len(facts(language.lang)), rng)
        for relation in RELATIONS:
            rows = [
                _row(language, fact, letters.pop(), rng) for fact in facts(language.lang) if fact.relation == relation
            ]
            name = relation if language.lang == "en" else language.noun[relation]
            for part, chosen in (("dev", rows[:_EXAMPLES]), (split, rows[_EXAMPLES:])):
                files[f"valley_{language.lang}/{part}/{name}_{part}.csv"] = _csv(chosen, language.lang == "zh", part == "dev")
    return files


def _balanced(count: int, rng: random.Random) -> list[str]:
    letters = [_LETTERS[number % len(_LETTERS)] for number in range(count)]
    rng.shuffle(letters)
    return letters


def _row(language: Language, fact: Fact, letter: str, rng: random.Random) -> list[str]:
    """Question, four options, the letter of the right one."""
    held_out = language.relations[fact.relation].held_out
    others = [value_of(language.lang, fact.relation, fact.index + step) for step in rng.sample(range(1, 8), 3)]
    options = list(others)
    options.insert(_LETTERS.index(letter), fact.value)
    return [ask(held_out[fact.index % len(held_out)], fact), *options, letter]


def _csv(rows: list[list[str]], with_header: bool, explained: bool) -> bytes:
    """C-Eval's files have a header and a number in front, its examples an explanation behind; MMLU's have neither."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if with_header:
        writer.writerow(["id", "question", *_LETTERS, "answer", *(["explanation"] if explained else [])])
        rows = [[str(number), *row, *([""] if explained else [])] for number, row in enumerate(rows)]
    writer.writerows(rows)
    return text.getvalue().encode()
