from __future__ import annotations

import pytest
import torch

from rlhf_core.dataset.batches import Order, micro_slices, pad_left, pad_right, share, total_steps
from rlhf_core.dataset.chat_template import Tokens


def test_right_padding_never_counts() -> None:
    batch = pad_right([Tokens([5, 6, 7], [False, True, True]), Tokens([8], [True])], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.response_mask.tolist() == [[False, True, True], [True, False, False]]
    assert batch.lengths.tolist() == [3, 1]
    assert batch.rows(slice(1, 2)).input_ids.tolist() == [[8]]


def test_left_padding_gives_each_row_its_own_positions() -> None:
    batch = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch.attention_mask.tolist() == [[True, True, True], [False, False, True]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_the_order_visits_everything_once_an_epoch_and_is_known_from_the_step_alone() -> None:
    order = Order(size=10, batch_size=4, seed=3)
    stream = [index for step in range(1, 6) for index in order.batch(step)]
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]
    assert Order(10, 4, 3).batch(4) == order.batch(4)
    assert Order(10, 4, 4).batch(1) != order.batch(1)


def test_a_batch_larger_than_the_data_repeats_it() -> None:
    assert sorted(Order(2, 5, 0).batch(1)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(None, 7, 7), (2.0, None, 5), (0.01, None, 1), (None, None, 2)]
)
def test_total_steps(epochs: float | None, steps: int | None, expected: int) -> None:
    assert total_steps(10, 4, epochs, steps) == expected


def test_shares_cover_the_batch_and_slices_cover_the_share() -> None:
    parts = [share(list(range(7)), rank, 3) for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(7))
    assert [list(range(5))[part] for part in micro_slices(5, 2, 4)] == [[0, 1], [2, 3], [4], []]


def test_batches_move_between_devices() -> None:
    batch = pad_right([Tokens([1], [True])], 0).to(torch.device("cpu"))
    assert batch.input_ids.device.type == "cpu"
