"""Patterns of whole lines, many of them, against very many lines: only those are tried that can match at all.

One alternation of a hundred patterns costs tens of microseconds a line, and nearly every line is prose. Its first characters
say which patterns it may begin; most lines begin none. What may begin with anything names the words that it must contain.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import regex

from data import kernels

_PREFIX = 3  # characters by which patterns are chosen; more would choose hardly better; data/kernels/lines.c has it too
_PROSE_PLACES = 1 << 15
_CACHED_PREFIXES = 1 << 16


class LinePatterns:
    """Regular expressions, of which `fullmatch` asks whether any matches a whole line.

    An entry is a pattern, or `words<TAB>pattern` with the words, separated by '|', of which one stands in every match.
    Raises ValueError for an entry that is no regular expression.

    `words` are those words for kernels.cut_lines, and `prose` is where it notes beginnings that no pattern has (uint64).
    """

    def __init__(self, entries: Iterable[str]) -> None:
        beginning: list[str] = []
        containing: list[str] = []
        words: set[str] = set()
        for entry in entries:
            needed, tab, pattern = entry.partition("\t")
            (containing if tab else beginning).append(pattern if tab else entry)
            words |= set(needed.split("|")) if tab else set()
        try:
            # `regex` knows of partial matches: whether a line that begins like this may still match.
            self._beginning = tuple(map(regex.compile, beginning))
            self._any = regex.compile("|".join(f"(?:{pattern})" for pattern in beginning))
            self._containing = [regex.compile(pattern) for pattern in containing]
        except regex.error as error:
            raise ValueError(f"line patterns: {error}") from None
        self.words = kernels.build_terms(sorted(words))
        self.prose = np.zeros(_PROSE_PLACES, np.uint64)
        self._possible = lru_cache(_CACHED_PREFIXES)(self._find_possible)

    def fullmatch(self, line: str) -> bool:
        for pattern in self._possible(line[:_PREFIX]):
            if pattern.fullmatch(line):
                return True
        return bool(kernels.find_terms(line, *self.words, False)) and any(pattern.fullmatch(line) for pattern in self._containing)

    def prose_beginning(self, line: str) -> int:
        """How many first characters of a line say that no pattern but those with words can match it; 0: some may, by all that are looked at."""
        for size in range(1, _PREFIX + 1):
            if not self._possible(line[:size]):
                return size
        return 0

    def _find_possible(self, prefix: str) -> tuple[regex.Pattern[str], ...]:
        """The patterns that a line with this beginning may match."""
        if not prefix:
            return self._beginning
        if len(prefix) == 1 and not self._any.fullmatch(prefix, partial=True):
            return ()
        shorter = self._possible(prefix[:-1])
        return shorter and tuple([pattern for pattern in shorter if pattern.fullmatch(prefix, partial=True)])

