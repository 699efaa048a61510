"""Lists of terms, and where they stand in a text: one Aho-Corasick automaton, whatever the number of terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, NamedTuple

import ahocorasick


def read_list(text: str) -> list[str]:
    """Entries of a list file: one a line, '#' starts a comment."""
    return [entry for line in text.splitlines() if (entry := line.split("#", 1)[0].strip())]


def bundled_list(name: str) -> list[str]:
    """Entries of data/corpus/lists/<name>.txt."""
    return read_list((resources.files("data.corpus") / "lists" / f"{name}.txt").read_text(encoding="utf-8"))


def is_spaced(character: str) -> bool:
    """A letter of a script that has spaces between words."""
    return character.isalpha() and not "\u2e80" <= character <= "\u9fff"


class Match(NamedTuple):
    start: int
    end: int
    value: Any


class TermMatcher:
    """Finds every occurrence of its terms. A term that begins or ends with a letter of a spaced script counts there only
    at the border of a word; Chinese has no such borders."""

    def __init__(self, terms: Iterable[tuple[str, Any]]) -> None:
        self._automaton = ahocorasick.Automaton()
        for term, value in terms:
            self._automaton.add_word(term, (len(term), is_spaced(term[0]), is_spaced(term[-1]), value))
        if len(self._automaton):
            self._automaton.make_automaton()

    def find(self, text: str) -> Iterator[Match]:
        """In the order of their ends."""
        if not len(self._automaton):
            return
        for last, (length, before, after, value) in self._automaton.iter(text):
            first = last - length + 1
            if before and first > 0 and is_spaced(text[first - 1]):
                continue
            if after and last + 1 < len(text) and is_spaced(text[last + 1]):
                continue
            yield Match(first, last + 1, value)
