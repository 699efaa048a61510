"""Is an instruction new? ROUGE-L F1 against a growing pool, exactly, without scoring most pairs.

ROUGE-L F1 of two token sequences of lengths m and n is 2 LCS / (m + n), LCS their longest common subsequence. Three
bounds, each exact, leave few pairs to score:

1. length: LCS <= min(m, n), so a pair of too unequal lengths cannot reach the threshold;
2. tokens: LCS <= the size of the common multiset of tokens. A pair that reaches the threshold shares at least
   `needed` tokens, so it shares one of any m - needed + 1 of the query's tokens (the prefix filter of Chaudhuri et al.
   2006, "A Primitive Operator for Similarity Joins"): only the pool's entries that hold one of the query's *rarest*
   tokens are looked at;
3. what those shared rare tokens and the rest of the query can add up to.

What is left is scored by a bit-parallel LCS (Hyyrö 2004, "Bit-parallel LCS-length computation revisited") on Python's
integers. Decisions are those of `rouge_score` to the last bit of the float: its formula is evaluated as it writes it.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.instructions.language import HAN, KANA

# Runs of letters and digits; a character of unspaced scripts is a token of its own. On ASCII text these are the tokens
# of rouge_score's default tokenizer without stemming (which is what Self-Instruct uses).
_TOKEN = re.compile(f"[{HAN}{KANA}]|[^\\W_{HAN}{KANA}]+")


def tokens(text: str) -> list[str]:
    """Lower-cased words; Chinese and Japanese characters one by one."""
    return _TOKEN.findall(text.lower())


def f1(lcs: int, m: int, n: int) -> float:
    """ROUGE-L F1, in the float operations of rouge_score (`_score_lcs`, `scoring.fmeasure`)."""
    if not lcs:
        return 0.0
    precision, recall = lcs / n, lcs / m
    return 2 * precision * recall / (precision + recall)


@lru_cache(maxsize=1 << 16)
def least_lcs(m: int, n: int, threshold: float) -> int:
    """The smallest LCS with f1 > threshold for lengths m and n; more than min(m, n) where none is."""
    lcs = max(0, int(threshold * (m + n) / 2) - 1)  # at or below the answer: f1 is 2 lcs / (m + n) up to rounding
    while lcs <= min(m, n) and not f1(lcs, m, n) > threshold:
        lcs += 1
    return lcs


@dataclass(frozen=True)
class Match:
    """The closest entry of the pool, of those above the threshold."""

    index: int  # in order of `add`
    score: float  # ROUGE-L F1


class Pool:
    """Token sequences that a new one is measured against. Memory: about 100 bytes a token.

    Args:
        threshold: a text is novel if its F1 with every entry is <= threshold (Self-Instruct: 0.7).
    """

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        self.threshold = threshold
        self.scored = 0  # pairs that reached the LCS; for benchmarks and tests of the bounds
        self._ids: dict[str, int] = {}
        self._entries: list[list[int]] = []
        self._lengths = array("i")
        self._longest = 0
        # (token, k-th occurrence in its text) -> entries: with occurrences told apart, multisets become sets
        self._postings: defaultdict[tuple[int, int], array[int]] = defaultdict(lambda: array("i"))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, text: str) -> None:
        sequence = [self._ids.setdefault(token, len(self._ids)) for token in tokens(text)]
        for item in _occurrences(sequence):
            self._postings[item].append(len(self._entries))
        self._entries.append(sequence)
        self._lengths.append(len(sequence))
        self._longest = max(self._longest, len(sequence))

    def closest(self, text: str) -> Match | None:
        """The best match above the threshold, the earliest of equals; None where the text is novel."""
        unknown = len(self._ids)
        sequence = [self._ids.get(token, unknown) for token in tokens(text)]
        m = len(sequence)
        if m == 0:
            return None  # rouge_score gives 0.0 for empty texts
        best: Match | None = None
        rest, candidates = self._candidates(sequence)
        masks: dict[int, int] = {}
        for position, token in enumerate(sequence):
            masks[token] = masks.get(token, 0) | 1 << position
        threshold = self.threshold
        for index, shared in candidates:
            entry = self._entries[index]
            n = len(entry)
            if min(shared + rest, n) < least_lcs(m, n, threshold):
                continue
            self.scored += 1
            score = f1(_lcs(masks, m, entry), m, n)
            if score <= threshold:
                continue
            if best is None or (score, -index) > (best.score, -best.index):
                best = Match(index, score)
                # From here on only a better one, or an equal one that is earlier, is of interest; a hair below the
                # score, so that float rounding at other lengths hides neither.
                threshold = max(threshold, score * (1 - 1e-12))
        return best

    def _candidates(self, sequence: list[int]) -> tuple[int, list[tuple[int, int]]]:
        """(tokens of the query not looked up, [(entry, looked-up tokens it shares)]) for all that may pass, the most promising
        first: a high score early lets the bounds drop the rest."""
        m = len(sequence)
        # What an entry of length n must have in common. A longer one than `limit` cannot pass: 2 m / (m + n) is too small.
        limit = min(self._longest, int(2 * m / self.threshold) + 1)
        needed = [least_lcs(m, n, self.threshold) for n in range(limit + 1)]
        enough = [lcs for n, lcs in enumerate(needed) if lcs <= min(m, n)]
        if not enough:
            return m, []
        prefix = m - min(enough) + 1
        rest = m - prefix
        lists = sorted((self._postings[item] for item in _occurrences(sequence) if item in self._postings), key=len)
        known = lists[: max(0, prefix - (m - len(lists)))]  # tokens that no entry holds are the rarest
        if not known:
            return rest, []
        counts = np.bincount(np.concatenate([np.frombuffer(entries, np.intc) for entries in known]), minlength=len(self))
        # The least that the looked-up tokens must give, by the entry's length; too long a one can give nothing.
        least = np.array([lcs - rest if lcs <= min(m, n) else m + 1 for n, lcs in enumerate(needed)] + [m + 1])
        passing = np.flatnonzero(counts >= least[np.minimum(np.frombuffer(self._lengths, np.intc), limit + 1)])
        passing = passing[np.argsort(-counts[passing], kind="stable")]
        return rest, list(zip(passing.tolist(), counts[passing].tolist(), strict=True))


def _occurrences(sequence: list[int]) -> list[tuple[int, int]]:
    seen: dict[int, int] = {}
    items = []
    for token in sequence:
        occurrence = seen.get(token, 0)
        seen[token] = occurrence + 1
        items.append((token, occurrence))
    return items


def _lcs(masks: dict[int, int], m: int, other: list[int]) -> int:
    """Length of the longest common subsequence; `masks`: token -> bits of its positions among the query's m."""
    ones = (1 << m) - 1
    row = ones  # a zero bit = the LCS grows at this position
    for token in other:
        mask = masks.get(token)
        if mask:
            matched = row & mask
            row = (row + matched | row - matched) & ones
    return m - row.bit_count()
