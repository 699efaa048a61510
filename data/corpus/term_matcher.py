"""Lists of terms, and where they stand in a text: in one pass, whatever the number of terms."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any, NamedTuple

from data import kernels
from data.character_tables import Forms
from data.text import Text


def read_list(text: str) -> list[str]:
    """Entries of a list file: one a line, '#' starts a comment."""
    return [entry for line in text.splitlines() if (entry := line.split("#", 1)[0].strip())]


def bundled_list(name: str) -> list[str]:
    """Entries of data/corpus/lists/<name>.txt."""
    return read_list((resources.files("data.corpus") / "lists" / f"{name}.txt").read_text(encoding="utf-8"))


class Match(NamedTuple):
    start: int
    end: int
    value: Any


class TermMatcher:
    """Finds every occurrence of its terms. A term that begins or ends with a letter of a script with spaces counts there only
    at the border of a word; Chinese has no such borders."""

    def __init__(self, terms: Iterable[tuple[str, Any]]) -> None:
        listed = dict(terms)
        self._values = list(listed.values())
        self._firsts, self._steps = kernels.build_terms(list(listed))

    def find(self, text: str) -> list[Match]:
        """In the order of their starts."""
        return [Match(start, end, self._values[number]) for start, end, number in kernels.find_terms(text, self._firsts, self._steps, True)]

    def find_folded(self, text: Text, forms: Forms) -> list[Any] | None:
        """The values of the terms in `text` with every character in its form; None where the form of some depends on its neighbours."""
        found = kernels.find_folded_terms(text, forms, self._firsts, self._steps)
        return None if found is None else [self._values[number] for _, _, number in found]
