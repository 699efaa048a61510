"""Intervals and tests against hand arithmetic and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rlhf_core.measures.statistics import (
    cohens_kappa,
    holm,
    mean_interval,
    mean_of_shares,
    paired_difference,
    sign_test,
    t_quantile,
    unpaired_difference,
    wilson,
)


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (5, 5), (3, 10), (81, 263), (1, 1)])
def test_wilson_is_scipys(successes: int, count: int) -> None:
    ours, theirs = wilson(successes, count), stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.low <= ours.value <= ours.high and ours.count == count


def test_wilson_takes_halves_and_refuses_nonsense() -> None:
    assert wilson(1.5, 3).value == 0.5
    for successes, count in ((0, 0), (2, 1), (-1, 4)):
        with pytest.raises(ValueError, match="a share needs"):
            wilson(successes, count)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 199])
def test_t_is_scipys(freedom: int) -> None:
    for probability in (0.5, 0.9, 0.975, 0.999):
        assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-6, abs=1e-9)


def test_mean_interval_by_hand() -> None:
    estimate = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(.975, 2) = 4.3027
    assert (estimate.value, estimate.high - 2) == pytest.approx((2.0, 4.3027 / math.sqrt(3)), abs=1e-4)
    assert mean_interval([4.0]).high == math.inf
    for bad in ([], [math.nan]):
        with pytest.raises(ValueError, match="finite"):
            mean_interval(bad)


def test_a_mean_of_shares_by_hand() -> None:
    """1 of 4 and 9 of 10: mean .575; Wilson's bounds are .0456 and .6994, .5958 and .9821."""
    small, large = wilson(1, 4), wilson(9, 10)
    found = mean_of_shares([small, large])
    assert (found.value, found.count) == (pytest.approx(0.575), 14)
    assert found.low == pytest.approx(0.575 - math.hypot(0.25 - 0.0456, 0.9 - 0.5958) / 2, abs=1e-4)
    assert found.high == pytest.approx(0.575 + math.hypot(0.6994 - 0.25, 0.9821 - 0.9) / 2, abs=1e-4)
    alone = mean_of_shares([large])
    assert (alone.low, alone.high) == pytest.approx((large.low, large.high))
    assert mean_of_shares([wilson(0, 5), wilson(0, 5)]).high > 0.0  # none right of a few is no certainty
    with pytest.raises(ValueError, match="one share at least"):
        mean_of_shares([])


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (8, 2), (5, 5), (40, 61), (1500, 1400)])
def test_sign_test_is_the_binomial(wins: int, losses: int) -> None:
    exact = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(exact, rel=1e-9)


def test_right_and_wrong_answers_are_mcnemars() -> None:
    new = [1.0] * 12 + [0.0] * 8
    old = [1.0] * 4 + [0.0] * 8 + [1.0] + [0.0] * 7  # 8 won, 1 lost
    found = paired_difference(new, old)
    assert found.value == pytest.approx(7 / 20) and found.count == 20 and found.test == "exact sign test"
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9) and found.is_significant
    assert 0 < found.low < found.value < found.high


def test_pairs_of_many_sizes_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=10), rng.normal(0.6, 1, size=10)
    exact = stats.permutation_test((new, old), lambda a, b: np.mean(a - b), permutation_type="samples").pvalue
    found = paired_difference(new, old, seed=3)
    assert found.test == "sign flips" and found.p_value == pytest.approx(exact, abs=0.02)
    assert found == paired_difference(new, old, seed=3)
    assert paired_difference(old, new, seed=3).value == -found.value


def test_equal_models_do_not_differ() -> None:
    assert paired_difference([1.0, 0.5], [1.0, 0.5]).p_value == 1.0
    with pytest.raises(ValueError, match="as many"):
        paired_difference([1.0], [1.0, 2.0])


def test_false_alarms_are_as_rare_as_promised_and_the_interval_covers() -> None:
    rng = np.random.default_rng(7)
    alarms = covered = 0
    for trial in range(100):
        old, new = rng.normal(size=30), rng.normal(size=30)
        found = paired_difference(new, old, seed=trial)
        alarms += found.is_significant
        covered += found.low <= 0 <= found.high
    assert alarms <= 12 and covered >= 86  # 5 and 95 expected; beyond these bounds once in a thousand


def test_unpaired_difference_is_a_permutation_test() -> None:
    new, old = [3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 2.0, 2.0, 3.0]
    gap = stats.permutation_test((new, old), lambda a, b: abs(np.mean(a) - np.mean(b)), alternative="greater").pvalue
    found = unpaired_difference(new, old)
    assert found.value == 3.0 and found.p_value == pytest.approx(gap, abs=0.01) and found.low > 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_kappa_by_hand() -> None:
    first, second = ["A"] * 25 + ["B"] * 25, ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)  # 0.7 observed, 0.5 by chance
    assert math.isnan(cohens_kappa(["A"], ["A"]))
    with pytest.raises(ValueError, match="same items"):
        cohens_kappa([], [])
