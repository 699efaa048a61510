"""Patterns of whole lines, many of them, against very many lines: only those are tried that can match at all.

One alternation of a hundred patterns costs tens of microseconds a line, and nearly every line is prose. Its first characters
say which patterns it may begin; most lines begin none. What may begin with anything names the words that it must contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from data import kernels
from data.corpus.beginnings import END, beginnings, outline

_BEGINNING = 6  # characters by which patterns are chosen; data/kernels/lines.c has it too
_ROOM = 200  # beginnings of a pattern, about; with ten times as many a tenth fewer lines are looked at


class LinePatterns:
    """Regular expressions, of which `fullmatch` asks whether any matches a whole line.

    An entry is a pattern, or `words<TAB>pattern` with the words, separated by '|', of which one stands in every match.
    Raises ValueError for an entry that is no regular expression, or may begin with anything and names no words.

    For kernels.cut_lines: `words` are those words, and `beginnings` the outlines that the other patterns begin with.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._by_beginning: dict[str, list[re.Pattern[str]]] = {}
        self._containing: list[re.Pattern[str]] = []
        words: set[str] = set()
        for entry in entries:
            needed, tab, pattern = entry.partition("\t") if "\t" in entry else ("", "", entry)
            try:
                compiled = re.compile(pattern)
                begins = () if tab else beginnings(pattern, _BEGINNING, _ROOM)
            except re.error as error:
                raise ValueError(f"line patterns: {pattern}: {error}") from None
            if "" in begins:
                raise ValueError(f"line patterns: {pattern} may begin with anything: write the words that it contains and a tab before it")
            for beginning in begins:
                self._by_beginning.setdefault(beginning, []).append(compiled)
            if tab:
                self._containing.append(compiled)
                words |= set(needed.split("|"))
        self.words = kernels.build_terms(sorted(words))
        self.beginnings = kernels.build_terms(sorted(self._by_beginning))

    def fullmatch(self, line: str) -> bool:
        begins = outline(line[:_BEGINNING]) + END
        for size in range(1, _BEGINNING + 1):
            for pattern in self._by_beginning.get(begins[:size], ()):
                if pattern.fullmatch(line):
                    return True
        return bool(kernels.find_terms(line, *self.words, False)) and any(pattern.fullmatch(line) for pattern in self._containing)
