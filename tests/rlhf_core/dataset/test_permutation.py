"""An order by index arithmetic has each document once, and differs by seed, source and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_core.dataset.permutation import permute, round_keys


@given(st.integers(1, 5000), st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_an_epoch_is_each_document_once(size: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(size), size, round_keys(seed, "web", epoch))
    assert np.array_equal(np.sort(order), np.arange(size))


def test_orders_differ_by_epoch_source_and_seed_and_look_random() -> None:
    orders = [permute(np.arange(2000), 2000, round_keys(*key)) for key in ((1, "a", 0), (1, "a", 1), (1, "b", 0), (2, "a", 0))]
    for number, one in enumerate(orders):
        assert (one == np.arange(2000)).sum() < 10  # one fixed point on average
        assert abs(np.corrcoef(one, np.arange(2000))[0, 1]) < 0.1
        for other in orders[:number]:
            assert (one == other).sum() < 10
    with pytest.raises(ValueError, match="must lie in"):
        permute(np.array([5]), 5, round_keys(1, "a", 0))


def test_the_order_is_the_same_for_ever() -> None:
    # a change here gives everyone another order and needs a new stage version
    assert permute(np.array([0, 1, 2, 99_999_999]), 10**8, round_keys(1, "web", 0)).tolist() == [15975524, 62244134, 76946140, 41574170]
    assert permute(np.array([0]), 10**8, round_keys(1, "web", 1)).tolist() == [80661750]
