"""How sure a measured figure is: intervals of shares and means, differences of two models on the same items.

numpy alone, no torch: tasks/ compares evaluations with it too. What is drawn at random follows from `seed`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_RESAMPLES = 5_000  # a 95% bound moves by about 1% of the interval's width from seed to seed
_CELLS = 4_000_000  # numbers drawn at once: 32 MB
_MANY = 200  # degrees of freedom from which Student's t is the normal distribution to within 0.5%


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval, and the number of independent items behind it."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """How much larger the new model's mean is than the old one's.

    `p_value` is two-sided: the chance of a difference at least as large if the two were equal. `test` names how it was found.
    """

    value: float
    low: float
    high: float
    p_value: float
    count: int
    test: str

    @property
    def is_significant(self) -> bool:
        return self.p_value < 1 - CONFIDENCE


def wilson(successes: float, count: int, confidence: float = CONFIDENCE) -> Estimate:
    """Wilson's score interval of a share (Wilson 1927; Brown, Cai, DasGupta 2001, eq. 4).

    `successes` may be a sum of parts of successes in [0, 1] (a tie counts half): their variance is at most that of whole
    ones, so the interval errs to the wide side.

    Raises:
        ValueError: no items, or not 0 <= successes <= count.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"a share needs 0 <= successes <= count and a count above 0, not {successes} of {count}")
    share, z = successes / count, NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if successes == 0 else middle - half  # at the edges the bound is the edge itself, rounding aside
    return Estimate(share, low, 1.0 if successes == count else middle + half, count)


def mean_interval(values: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimate:
    """Mean with Student's t interval. One value alone has no spread: its bounds are infinite.

    Raises:
        ValueError: no values, or values that are not finite.
    """
    numbers = _finite(values)
    mean, count = float(numbers.mean()), len(numbers)
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = t_quantile((1 + confidence) / 2, count - 1) * float(numbers.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, count)


def mean_of_shares(shares: Sequence[Estimate]) -> Estimate:
    """Mean of the shares of several groups, each weighing the same whatever its size, as benchmarks average their subjects.

    The bounds put the groups' own together: the mean's distance to a bound is the root of the groups' squared ones over their
    number (MOVER: Zou and Donner 2008, of sums of parameters). `count` is that of all items.

    Raises:
        ValueError: no groups.
    """
    if not shares:
        raise ValueError("a mean of shares needs one share at least")
    mean, count = math.fsum(one.value for one in shares) / len(shares), sum(one.count for one in shares)
    below = math.sqrt(math.fsum((one.value - one.low) ** 2 for one in shares)) / len(shares)
    above = math.sqrt(math.fsum((one.high - one.value) ** 2 for one in shares)) / len(shares)
    return Estimate(mean, mean - below, mean + above, count)


def paired_difference(
    new: Sequence[float] | NDArray[np.float64], old: Sequence[float] | NDArray[np.float64], seed: int = 1
) -> Difference:
    """Two models on the same items, in the same order.

    The interval is the bootstrap's percentile interval over items (Efron 1979). The p-value is that of the sign flips
    (Fisher 1935): exact where every difference has one size, as for right and wrong answers, where it is McNemar's exact
    test; drawn at random elsewhere.

    Raises:
        ValueError: no items, unequal lengths, or values that are not finite.
    """
    first, second = _finite(new), _finite(old)
    if len(first) != len(second):
        raise ValueError(f"paired items are as many on both sides, not {len(first)} and {len(second)}")
    gaps = first - second
    moved = gaps[np.abs(gaps) > 1e-12]
    if len(moved) == 0:
        return Difference(0.0, 0.0, 0.0, 1.0, len(gaps), "no item differs")
    rng = np.random.default_rng(seed)
    means = _bootstrap_means(gaps, rng)
    sizes = np.abs(moved)
    if bool(np.ptp(sizes) <= 1e-9 * float(sizes.max())):
        p_value, test = sign_test(int((moved > 0).sum()), int((moved < 0).sum())), "exact sign test"
    else:
        p_value, test = _sign_flips(moved, rng), "sign flips"
    return Difference(float(gaps.mean()), *_bounds(means), p_value, len(gaps), test)


def unpaired_difference(
    new: Sequence[float] | NDArray[np.float64], old: Sequence[float] | NDArray[np.float64], seed: int = 1
) -> Difference:
    """Two models on items that are not the same: bootstrap of each side, p-value by random relabelling of the items.

    Raises:
        ValueError: a side without items, or values that are not finite.
    """
    first, second = _finite(new), _finite(old)
    rng = np.random.default_rng(seed)
    means = _bootstrap_means(first, rng) - _bootstrap_means(second, rng)
    observed = float(first.mean() - second.mean())
    together = np.concatenate([first, second])
    total, reached = float(together.sum()), 0
    for rows in _blocks(len(together)):
        shuffled = rng.permuted(np.broadcast_to(together, (rows, len(together))), axis=1)
        sums = shuffled[:, : len(first)].sum(axis=1)
        gaps = sums / len(first) - (total - sums) / len(second)
        reached += int((np.abs(gaps) >= abs(observed) - 1e-12).sum())
    low, high = _bounds(means)
    return Difference(observed, low, high, (reached + 1) / (_RESAMPLES + 1), len(together), "relabelling")


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value of `wins` against `losses`, ties left out (McNemar's exact test for right and wrong answers).

    Raises:
        ValueError: a negative count.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"counts are not negative, as in {wins} wins and {losses} losses")
    count, fewer = wins + losses, min(wins, losses)
    # The sum in logarithms: 2**-count is no float beyond 1074 items.
    terms = [_log_choose(count, k) - count * math.log(2) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in terms))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several measures looked at together, adjusted so that all of them hold at once (Holm 1979), in the given order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Agreement of two judges beyond chance (Cohen 1960): 1 for perfect, 0 for chance. NaN where chance alone agrees always.

    Raises:
        ValueError: no items, or unequal lengths.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"agreement needs the same items of both, not {len(first)} and {len(second)}")
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    chance = sum(first.count(label) * second.count(label) for label in set(first)) / len(first) ** 2
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for 0.5 <= probability < 1, by halving on the closed form of its distribution."""
    if freedom >= _MANY:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while _t_distribution(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_distribution(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _t_distribution(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0 (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + inside / 2


def _bootstrap_means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.concatenate([values[rng.integers(len(values), size=(rows, len(values)))].mean(axis=1) for rows in _blocks(len(values))])


def _sign_flips(gaps: NDArray[np.float64], rng: np.random.Generator) -> float:
    observed, reached = abs(float(gaps.sum())), 0
    for rows in _blocks(len(gaps)):
        signs = rng.integers(2, size=(rows, len(gaps))) * 2 - 1
        reached += int((np.abs(signs @ gaps) >= observed - 1e-12).sum())
    return (reached + 1) / (_RESAMPLES + 1)


def _blocks(width: int) -> list[int]:
    """Numbers of resamples drawn at once, of `width` items each, so that memory stays bounded."""
    rows = max(1, _CELLS // max(1, width))
    return [min(rows, _RESAMPLES - start) for start in range(0, _RESAMPLES, rows)]


def _bounds(means: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _finite(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0 or not bool(np.isfinite(numbers).all()):
        raise ValueError("a mean needs a list of at least one finite number")
    return numbers
