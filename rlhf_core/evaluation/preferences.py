"""How well a reward model orders held-out rankings: accuracy, by source and by margin; calibration; how much it loves length."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rlhf_core.dataset.records import Record
from rlhf_core.evaluation.scoring import score_texts
from rlhf_core.measures.statistics import wilson
from rlhf_core.rewards.sources import Scorer

_BINS = 10
_GROUPS = 6  # distinct margins that are shown as they are; more are put into quarters


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, of which the first was preferred.

    `margin`: by how much, in points of labels.ratings or, without, in ranks. Lengths are in characters. `right`: 1 where
    the preferred one scores higher, 0.5 for equal scores.
    """

    id: str
    source: str | None
    lang: str | None
    margin: float
    chosen_score: float
    rejected_score: float
    chosen_length: int
    rejected_length: int

    @property
    def right(self) -> float:
        return 0.5 if self.chosen_score == self.rejected_score else float(self.chosen_score > self.rejected_score)


def score_pairs(scorer: Scorer, rankings: Sequence[Record]) -> tuple[list[Pair], dict[str, int]]:
    """Every pair of every ranking, scored, and how many are left out, by reason."""
    flat = [(record.prompt(), text) for record in rankings for text in record.responses]
    scores = iter(score_texts(scorer, [prompt for prompt, _ in flat], [text for _, text in flat], [True] * len(flat)))
    left_out = {"rated alike": 0, "rated against their order": 0, "too long for the reward model's context": 0}
    pairs = []
    for record in rankings:
        own, ratings = [next(scores) for _ in record.responses], record.ratings
        for i, j in combinations(range(len(own)), 2):
            margin, chosen, rejected = ratings[i] - ratings[j], own[i], own[j]
            if margin == 0:
                left_out["rated alike"] += 1
            elif margin < 0:
                left_out["rated against their order"] += 1
            elif chosen is None or rejected is None:
                left_out["too long for the reward model's context"] += 1
            else:
                lengths = len(record.responses[i]), len(record.responses[j])
                pairs.append(Pair(record.id, record.source, record.lang, margin, chosen, rejected, *lengths))
    return pairs, left_out


def summarise(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Figures of a reward model; `accuracy` is None without pairs."""
    if not pairs:
        return {"accuracy": None, "pairs": 0}
    return {
        **accuracy(pairs),
        "by_source": _grouped(pairs, lambda pair: pair.source),
        "by_lang": _grouped(pairs, lambda pair: pair.lang),
        "by_margin": _grouped(pairs, margin_names(pairs)),
        **calibration(pairs),
        "length_correlation": length_correlation(pairs),
        "longer_is_better": float(np.mean([_longer(pair) for pair in pairs])),
    }


def accuracy(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Share of pairs in the right order, equal scores half. The pairs of one ranking hang together, so the interval is that
    of as many items as there are rankings."""
    share, rankings = sum(pair.right for pair in pairs) / len(pairs), len({pair.id for pair in pairs})
    estimate = wilson(share * rankings, rankings)
    return {"accuracy": share, "accuracy_interval": [estimate.low, estimate.high], "pairs": len(pairs), "rankings": rankings}


def _grouped(pairs: Sequence[Pair], key: Callable[[Pair], str | None]) -> dict[str, Any]:
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[key(pair) or "unknown"].append(pair)
    return {name: accuracy(own) for name, own in sorted(groups.items())}


def margin_names(pairs: Sequence[Pair]) -> Callable[[Pair], str]:
    """How the pairs are grouped by margin: by each margin where there are few, else by quarters of the pairs."""
    margins = np.array([pair.margin for pair in pairs])
    if len(np.unique(margins)) <= _GROUPS:
        return lambda pair: f"{pair.margin:g}"
    edges = np.unique(np.quantile(margins, [0, 0.25, 0.5, 0.75, 1]))

    def name(pair: Pair) -> str:
        at = min(int(np.searchsorted(edges, pair.margin, side="right")) - 1, len(edges) - 2)
        return f"{edges[at]:.3g} to {edges[at + 1]:.3g}"

    return name


def calibration(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Whether sigmoid(score difference) is the probability it claims to be (Bradley and Terry 1952).

    `reliability`: pairs by the model's confidence in its own order, 0.5 to 1 in equal steps; `calibration_error`: the
    difference of confidence and accuracy, averaged over pairs (expected calibration error, Guo et al. 2017, eq. 3).
    """
    gaps = np.array([pair.chosen_score - pair.rejected_score for pair in pairs])
    confidence = 1 / (1 + np.exp(-np.abs(np.clip(gaps, -700, 700))))
    right = np.array([pair.right for pair in pairs])
    places = np.minimum(((confidence - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for place in range(_BINS):
        own = places == place
        if own.any():
            sure, share = float(confidence[own].mean()), float(right[own].mean())
            edges = {"from": 0.5 + place / (2 * _BINS), "to": 0.5 + (place + 1) / (2 * _BINS)}
            bins.append({**edges, "pairs": int(own.sum()), "confidence": sure, "accuracy": share})
            error += abs(sure - share) * float(own.mean())
    return {"reliability": bins, "calibration_error": error}


def length_correlation(pairs: Sequence[Pair]) -> dict[str, float | None]:
    """Correlation of score difference and length difference within pairs: no prompt's own length plays in. None where one
    of them never differs."""
    gaps = np.array([pair.chosen_score - pair.rejected_score for pair in pairs])
    lengths = np.array([pair.chosen_length - pair.rejected_length for pair in pairs], dtype=np.float64)
    return {"pearson": _pearson(gaps, lengths), "spearman": _pearson(_ranks(gaps), _ranks(lengths))}


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    value = float(np.corrcoef(a, b)[0, 1])
    return value if math.isfinite(value) else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _longer(pair: Pair) -> float:
    return 0.5 if pair.chosen_length == pair.rejected_length else float(pair.chosen_length > pair.rejected_length)
