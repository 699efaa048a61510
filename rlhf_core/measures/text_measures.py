"""Measures of generated answers: variety, repetition, agreement with a right answer."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence


def distinct_n(answers: Sequence[Sequence[Hashable]], n: int = 2) -> float:
    """Distinct n-grams / all n-grams over the answers together (Li et al. 2016); 0 where there is none."""
    grams = [tuple(answer[i : i + n]) for answer in answers for i in range(len(answer) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def commonest_share(answers: Sequence[Sequence[int]], n: int = 4) -> float:
    """Share of answers that hold the n-gram found in most of them: 1 where all say the same; 0 where none is so long."""
    found: Counter[tuple[int, ...]] = Counter()
    for answer in answers:
        found.update({tuple(answer[i : i + n]) for i in range(len(answer) - n + 1)})
    return max(found.values()) / len(answers) if found else 0.0


def self_bleu(answers: Sequence[Sequence[int]], most: int = 4) -> float | None:
    """Mean BLEU of each answer against all others (Zhu et al. 2018, Texygen): 1 where all are alike, low where they vary.

    n-grams up to `most`, counts of n > 1 with one added (Lin and Och 2004), the brevity penalty by the closest length.
    None for fewer than two answers.
    """
    if len(answers) < 2:
        return None
    grams = [[Counter(tuple(a[i : i + n]) for i in range(len(a) - n + 1)) for n in range(1, most + 1)] for a in answers]
    return sum(_bleu(place, answers, grams, most) for place in range(len(answers))) / len(answers)


def _bleu(place: int, answers: Sequence[Sequence[int]], grams: list[list[Counter[tuple[int, ...]]]], most: int) -> float:
    """BLEU of the answer at `place` against the others."""
    length = len(answers[place])
    logs = 0.0
    for n in range(1, most + 1):
        own = grams[place][n - 1]
        matched = sum(
            min(count, max(other[n - 1][gram] for at, other in enumerate(grams) if at != place)) for gram, count in own.items()
        )
        added = int(n > 1)
        if matched + added == 0:
            return 0.0
        logs += math.log((matched + added) / (max(length - n + 1, 0) + added)) / most
    others = [len(answer) for at, answer in enumerate(answers) if at != place]
    closest = min(others, key=lambda other: (abs(other - length), other))
    return math.exp(logs + min(0.0, 1 - closest / length))


def repeats_itself(answer: Sequence[int], n: int = 3, times: int = 3) -> bool:
    """Whether some n tokens stand `times` times in a row, the mark of a model that has lost its way."""
    for start in range(len(answer) - n * times + 1):
        first = list(answer[start : start + n])
        if all(list(answer[start + k * n : start + (k + 1) * n]) == first for k in range(1, times)):
            return True
    return False


def normalised(text: str) -> str:
    """NFKC, lower case, blanks as one, without outer blanks and quotes."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", text).strip(" \"'“”‘’「」")


def exact_match(answer: str, reference: str) -> bool:
    """Whether the answer says the reference and then ends, or goes on with a new sentence.

    Both are normalised; the reference's own closing point does not matter. "Orsk" and "Orsk. Glad to help!" match
    the reference "Orsk."; "Orskval" and "Orsk and Tarn" do not.
    """
    said, right = normalised(answer), re.sub(r"[ .!?。!?]+$", "", normalised(reference))
    if not right or not said.startswith(right):
        return False
    return re.match(r"[\"'”’」)]*($|[.!?。!?](\D|$)|\n)", said[len(right) :]) is not None
