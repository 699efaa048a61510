"""The records that training reads (ARCHITECTURE.md): JSON lines of conversations, preferences and prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlhf_core.job.errors import BadInput


@dataclass(frozen=True)
class Turn:
    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Record:
    """A conversation; a prompt, where the last turn is the user's; a preference, where it has responses, best first."""

    id: str
    system: str | None
    turns: tuple[Turn, ...]
    lang: str | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    responses: tuple[str, ...] = ()
    source: str | None = None

    @property
    def reference(self) -> str | None:
        """The right answer, where the labels name one."""
        reference = self.labels.get("reference")
        return reference if isinstance(reference, str) and reference.strip() else None

    @property
    def ratings(self) -> list[float]:
        """A number for each response: `labels.ratings` where there are some, else falling by 1 a rank. A response is better than a
        later one where its rating is higher. BadInput for ratings that are not a finite number for each."""
        given = self.labels.get("ratings")
        if given is None:
            return [-float(rank) for rank in range(len(self.responses))]
        if not isinstance(given, list) or len(given) != len(self.responses):
            raise BadInput(f"record {self.id}: labels.ratings must be a number for each of its {len(self.responses)} responses, not {given}")
        if not all(isinstance(rating, int | float) and math.isfinite(rating) for rating in given):
            raise BadInput(f"record {self.id}: labels.ratings must be finite numbers, not {given}")
        return [float(rating) for rating in given]

    def prompt(self) -> Record:
        """The record up to its last user turn."""
        last = max((i for i, turn in enumerate(self.turns) if turn.role == "user"), default=-1)
        return Record(self.id, self.system, self.turns[: last + 1], self.lang, self.labels)

    def answered(self, text: str) -> Record:
        """The record with one more assistant turn."""
        return Record(self.id, self.system, (*self.turns, Turn("assistant", text)), self.lang, self.labels)


def parse_record(line: str, name: str = "") -> Record:
    """One JSON line, called `name` where it has no id; raises ValueError, KeyError or TypeError with what is wrong."""
    raw = json.loads(line)
    if "turns" not in raw and "prompt" in raw:  # a bare question with its answer
        labels = {"reference": raw.get("reference") or raw.get("answer")}
        raw = {
            **raw,
            "turns": [{"role": "user", "text": raw["prompt"]}],
            "labels": labels | (raw.get("labels") or {}),
        }
    turns = tuple(Turn(turn["role"], _text(turn["text"])) for turn in raw["turns"])
    if not turns:
        raise ValueError("no turns")
    for index, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[index % 2]:
            raise ValueError(
                f"turn {index + 1} is by {turn.role}; user and assistant must alternate, user first"
            )
    if raw.get("responses") and turns[-1].role != "user":
        raise ValueError("the last turn is the assistant's: responses answer a user's turn")
    labels = raw.get("labels") or {}
    if not isinstance(labels, dict):
        raise TypeError(f"labels are {labels!r}")
    return Record(
        id=_text(str(raw.get("id", name))),
        system=_optional(raw.get("system")),
        turns=turns,
        lang=_optional(raw.get("lang")),
        labels=labels,
        responses=tuple(_text(text) for text in raw.get("responses") or ()),
        source=_optional(raw.get("source")),
    )


def _text(value: Any) -> str:
    """Raises TypeError for anything but text, ValueError for half of a surrogate pair, which JSON can spell and no tokenizer read."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()
    return value


def _optional(value: Any) -> str | None:
    return _text(value) if value else None


def read_records(path: Path) -> list[Record]:
    """All of `iterate_records`."""
    return list(iterate_records(path))


def iterate_records(path: Path) -> Iterator[Record]:
    """Every record of a JSON-lines file; BadInput names file and line of the first that cannot be read."""
    if not path.is_file():
        raise BadInput(f"no such file: {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # Windows' editors begin a file with a mark
                    record = parse_record(text, f"line {number}")  # what is measured of a record is compared by its name
                except UnicodeDecodeError as error:
                    raise BadInput(f"{path}, line {number}: {error}; write the file in UTF-8, such as by iconv -f GB18030 -t UTF-8") from error
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise BadInput(f"{path}, line {number}: {error!r} is no record") from error
                yield record
