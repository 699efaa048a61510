"""Nothing is computed twice, nothing that nobody asked for, and every place that matters finds its state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlhf_core.generation.packing import Packing, pack, steady

A, B, C, PAD = 1, 2, 3, 0


def rows(*lists: list[int]) -> Tensor:
    return torch.tensor(lists)


def last(input_ids: Tensor, *places: int) -> Tensor:
    """Only this place of each row is asked for; -1: none."""
    return torch.arange(input_ids.shape[1]) == torch.tensor(places).unsqueeze(1)


def packed(input_ids: Tensor, select: Tensor) -> Packing:
    found = pack(input_ids, select)
    assert found is not None
    return found


def test_a_common_beginning_is_computed_once() -> None:
    input_ids = rows([A, B, C, A], [A, B, A, A], [A, B, A, C])
    found = packed(input_ids, last(input_ids, 3, 3, 3))
    assert found.fresh.tolist() == [0, 1, 2, 3, 6, 7, 11]
    assert found.again.tolist() == [4, 5, 8, 9, 10]
    assert found.found.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 0, 1, 4, 6]


def test_what_is_equal_behind_a_difference_is_computed_apart() -> None:
    input_ids = rows([A, B, C, A], [B, B, C, A], [A, A, PAD, PAD])
    assert packed(input_ids, last(input_ids, 3, 3, 1)).fresh.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_padding_is_not_computed_and_a_longer_row_finds_what_a_shorter_lacks() -> None:
    input_ids = rows([A, B, PAD, PAD], [A, B, C, A], [A, B, PAD, PAD])
    found = packed(input_ids, last(input_ids, 1, 3, -1))
    assert found.fresh.tolist() == [0, 1, 6, 7]
    assert found.again.tolist() == [4, 5]


def test_rows_without_padding_or_likeness_stay_as_they_are_and_so_do_rows_of_which_nothing_is_asked() -> None:
    input_ids = torch.arange(20).view(4, 5)
    assert pack(input_ids, torch.ones_like(input_ids, dtype=torch.bool)) is None
    assert pack(input_ids, torch.zeros_like(input_ids, dtype=torch.bool)) is None


@pytest.mark.parametrize("seed", range(8))
def test_every_place_before_the_last_asked_for_finds_its_own_beginning(seed: int) -> None:
    """Few tokens, so that random rows begin alike in all sorts of ways."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(0, 2, (9, 6), generator=generator)
    select = torch.rand(9, 6, generator=generator) < 0.2
    found = packed(input_ids, select)
    beginnings = [tuple(input_ids.view(-1)[place // 6 * 6 : place + 1].tolist()) for place in found.fresh.tolist()]
    for row in range(9):
        asked = torch.nonzero(select[row]).flatten().tolist()
        for column in range(max(asked, default=-1) + 1):
            own = tuple(input_ids[row, : column + 1].tolist())
            assert beginnings[found.found[row * 6 + column]] == own
    values = torch.rand(len(found.fresh), 3, generator=generator, dtype=torch.float64)
    needed = torch.zeros(54, 3, dtype=torch.float64)
    places = torch.cat([found.fresh, found.again])
    needed[places] = torch.rand(len(places), 3, generator=generator, dtype=torch.float64)
    # gather_sum is the adjoint of spread: <spread(x), y> = <x, gather_sum(y)>
    assert float((found.spread(values) * needed).sum()) == pytest.approx(float((values * found.gather_sum(needed)).sum()))


def test_few_lengths_occur_of_what_is_made_steady() -> None:
    assert len(steady(torch.arange(0))) == 0
    lengths = [len(steady(torch.arange(count))) for count in range(1, 5000)]
    assert all(count <= length < count + max(64, count / 8) for count, length in enumerate(lengths, 1))
    assert len(set(lengths)) < 50
    assert steady(torch.tensor([3, 8])).tolist() == [3, *[8] * 63]
