"""ROUGE-L between short texts, fast enough to hold every instruction against every other."""

from __future__ import annotations

import re
from collections import Counter

from data.samples.world import Lang

_WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")


def tokens(text: str, lang: Lang, punctuation: bool = False) -> list[str]:
    """Lower-cased words of English, characters of Chinese; with `punctuation` its marks are tokens too."""
    text = text.lower()
    if lang == "zh":
        return [c for c in text if not c.isspace() and (punctuation or _WORD.match(c))]
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text) if punctuation else _WORD.findall(text)


class Pool:
    """The texts accepted so far, with the longest-common-subsequence measure over them."""

    def __init__(self) -> None:
        self._texts: list[tuple[list[str], Counter[str]]] = []

    def add(self, words: list[str]) -> None:
        self._texts.append((words, Counter(words)))

    def closest(self, words: list[str]) -> float:
        """Largest ROUGE-L F1 (2 * LCS / sum of lengths) to a text of the pool; 0 when that is empty.

        The LCS runs over the bits of one integer (Crochemore et al. 2001; one step per word of the other text).
        Texts whose bag of words rules a better score out are not compared.
        """
        if not words:
            return 0.0
        masks: dict[str, int] = {}
        for position, word in enumerate(words):
            masks[word] = masks.get(word, 0) | 1 << position
        full = (1 << len(words)) - 1
        bag = Counter(words)
        best = 0.0
        for other, other_bag in self._texts:
            total = len(words) + len(other)
            if not total or 2 * min(len(words), len(other)) <= best * total:
                continue
            shared = sum(min(count, other_bag[word]) for word, count in bag.items())
            if 2 * shared <= best * total:
                continue
            row = full
            for word in other:
                match = row & masks.get(word, 0)
                row = ((row + match) | (row - match)) & full
            common = len(words) - row.bit_count()
            best = max(best, 2 * common / total)
        return best
