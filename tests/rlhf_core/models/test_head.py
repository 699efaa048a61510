"""Some rows of logits at a time give what all of them give at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlhf_core import losses
from rlhf_core.models import head


def given(rows: int, words: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden, weight = (torch.randn(size, 12, generator=generator, requires_grad=True) for size in (rows, words))
    return hidden, weight, torch.randint(0, words, (rows,), generator=generator)


@pytest.mark.parametrize("use", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.3)], ids=["logprobs", "entropy", "both"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [1, 128, 300])  # less than a part, just one, two and a bit
def test_a_part_at_a_time_is_the_whole(
    rows: int, temperature: float, use: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_CELLS", 1)  # parts of 128 rows
    hidden, weight, labels = given(rows, 37)
    found = []
    for way in (head.token_likelihood, lambda h, w, *more: losses.logprobs_and_entropy(h @ w.t(), *more)):
        hidden.grad = weight.grad = None
        logprobs, entropy = way(hidden, weight, labels, temperature)
        along = torch.sin(torch.arange(rows) + 1.0)
        (use[0] * (logprobs * along).sum() + use[1] * (entropy * along.flip(0)).sum()).backward()
        found.append((logprobs.detach(), entropy.detach(), hidden.grad, weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # the way that keeps nothing
        logprobs, entropy = head.token_likelihood(hidden, weight, labels, temperature)
    torch.testing.assert_close((logprobs, entropy), found[0][:2])


def test_large_logits_overflow_nothing_and_no_rows_give_no_rows() -> None:
    hidden, weight, labels = given(5, 9)
    logprobs, entropy = head.token_likelihood(hidden * 1e4, weight, labels)
    assert bool(torch.isfinite(logprobs).all())
    assert bool(torch.isfinite(entropy).all())
    (logprobs.sum() + entropy.sum()).backward()
    assert hidden.grad is not None
    assert bool(torch.isfinite(hidden.grad).all())
    weight.grad = None
    logprobs, _ = head.token_likelihood(hidden[:0], weight, labels[:0])
    logprobs.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("rows", [0, 1, 64, 70])
def test_rows_that_are_added_for_a_known_shape_change_nothing(rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(12, 9).to(torch.bfloat16)
    found = []
    for way in (head.project, lambda layer, hidden: layer(hidden)):
        hidden = torch.randn(rows, 12, generator=generator.manual_seed(1)).to(torch.bfloat16).requires_grad_()
        layer.zero_grad()
        said = way(layer, hidden)
        said.float().square().sum().backward()
        assert layer.weight.grad is not None
        found.append((said.detach(), hidden.grad, layer.weight.grad.clone()))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_heads_that_are_more_than_a_product_are_left_to_themselves() -> None:
    assert head.serves(nn.Linear(3, 4, bias=False))
    assert not head.serves(nn.Linear(3, 4))
    assert not head.serves(nn.Linear(3, 4, bias=False).to(torch.bfloat16))
    assert not head.serves(nn.Sequential(nn.Linear(3, 4, bias=False)))
    split = nn.Linear(3, 4, bias=False)
    split.weight.ds_id = 1  # type: ignore[assignment]
    assert not head.serves(split)
