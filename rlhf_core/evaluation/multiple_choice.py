"""Multiple choice as C-Eval and MMLU are published: their files, and the prompts that their authors ask with.

ceval  FOLDER/{dev,val}/SUBJECT_{dev,val}.csv with a header line: id,question,A,B,C,D,answer[,explanation]; examples are taken
       from dev, questions from val (test has no answers); Chinese prompt (Huang et al. 2023)
mmlu   FOLDER/{dev,test,val}/SUBJECT_{dev,test,val}.csv without a header: question,A,B,C,D,answer; examples from dev,
       questions from test, or val where there is no test; English prompt (Hendrycks et al. 2021)

Texts may be quoted, hold commas, quotes and line breaks, and begin with a byte order mark; MMLU's files may have a header all the
same, and C-Eval's examples an explanation. A row that is no question is left out and counted by reason: `no_question`, `missing_option`,
`more_options` (a fifth, or cells beyond the last column), `bad_key` (not A to D, in either case).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_core.evaluation.subjects import SUBJECTS, describe
from rlhf_core.job.errors import BadInput

LETTERS = ("A", "B", "C", "D")
_COLUMNS = ("question", *LETTERS, "answer")
_FURTHER = ("E", "F", "G", "H")  # options that the letters of these layouts do not reach
_REST = "rest"
SKIPPED = ("no_question", "missing_option", "more_options", "bad_key")  # why a row is left out


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    options: tuple[str, ...]  # four
    answer: str  # one of LETTERS


@dataclass
class Subject:
    """`shots` are the examples that every prompt of the subject may begin with; `skipped` counts rows by reason."""

    name: str
    title: str
    category: str
    layout: str
    shots: list[Question] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def prompt(self, question: Question, shots: int) -> str:
        """Up to where the letter stands: the description, so many examples with their answers, the question."""
        style = _STYLES[self.layout]
        blocks = [style.block(shot) + style.letter(shot.answer) + "\n\n" for shot in self.shots[:shots]]
        return style.description.format(self.title) + "".join(blocks) + style.block(question)

    def letters(self) -> tuple[str, ...]:
        """The four continuations whose probabilities are compared."""
        return tuple(_STYLES[self.layout].letter(letter) for letter in LETTERS)


@dataclass(frozen=True)
class _Style:
    description: str
    asks: str
    space: str  # between the request for an answer and the letter

    def block(self, question: Question) -> str:
        options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, question.options, strict=True))
        return f"{question.text}\n{options}{self.asks}"

    def letter(self, letter: str) -> str:
        return self.space + letter


_STYLES = {
    "ceval": _Style("以下是中国关于{}考试的单项选择题，请选出其中的正确答案。\n\n", "答案：", ""),
    "mmlu": _Style("The following are multiple choice questions (with answers) about {}.\n\n", "Answer:", " "),
}
_SPLITS = {"ceval": ("val",), "mmlu": ("test", "val")}


def read_subjects(layout: str, folder: Path) -> list[Subject]:
    """Every subject of a folder in that layout, in the order of their names.

    Raises:
        BadInput: no file of questions, or one that is no CSV file in UTF-8; names the folder and what was looked for.
    """
    for split in _SPLITS[layout]:
        files = sorted((folder / split).glob(f"[!.]*_{split}.csv"))  # archives made on a Mac hold ._SUBJECT_val.csv, no CSV
        if files:
            break
    else:
        wanted = " or ".join(f"{split}/SUBJECT_{split}.csv" for split in _SPLITS[layout])
        raise BadInput(f"no questions in {folder}: the layout {layout} has files {wanted}")
    subjects = []
    for file in files:
        name = file.name.removesuffix(f"_{split}.csv")
        subject = Subject(name, *describe(layout, name), layout)
        subject.questions = list(_questions(file, layout, subject.skipped))
        examples = folder / "dev" / f"{name}_dev.csv"
        if examples.is_file():
            subject.shots = list(_questions(examples, layout, subject.skipped))
        subjects.append(subject)
    return subjects


def missing_subjects(layout: str, subjects: list[Subject]) -> list[str]:
    """Published subjects that are not there, where some are: an average over the rest is not the published one."""
    published, there = SUBJECTS[layout], {subject.name for subject in subjects}
    return sorted(published.keys() - there) if published.keys() & there else []


def _questions(file: Path, layout: str, skipped: Counter[str]) -> Iterator[Question]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(_rows(stream, layout, file)):
                values = [(row.get(column) or "").strip() for column in _COLUMNS]
                text, options, answer = values[0], tuple(values[1:5]), values[5].upper()
                more = [*(row.get(_REST) or ()), *(row.get(letter) or "" for letter in _FURTHER)]
                broken = (not text, not all(options), any(map(str.strip, more)), answer not in LETTERS)
                if reason := next((reason for reason, holds in zip(SKIPPED, broken, strict=True) if holds), None):
                    skipped[reason] += 1
                else:
                    yield Question(row.get("id") or str(number), text, options, answer)
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: no CSV file in UTF-8: {error}") from error


def _rows(stream: Iterator[str], layout: str, file: Path) -> Iterator[dict[str, Any]]:
    if layout == "mmlu":
        rows = csv.DictReader(stream, fieldnames=_COLUMNS, restkey=_REST)
        yield from (row for place, row in enumerate(rows) if place or tuple(row.values()) != _COLUMNS)
        return
    reader = csv.DictReader(stream, restkey=_REST)
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise BadInput(f"{file}: the columns {', '.join(missing)} are missing; C-Eval's files begin with id,question,A,B,C,D,answer")
    yield from reader
