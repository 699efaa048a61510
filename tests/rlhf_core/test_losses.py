"""Every formula against arithmetic done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf_core import losses

LN2 = math.log(2)


def test_token_logprobs_of_two_tokens_at_two_temperatures() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    label = torch.tensor([1])
    assert losses.token_logprobs(logits, label).item() == pytest.approx(math.log(3 / 4))
    # at temperature 1/2 the odds 3 : 1 become 9 : 1
    assert losses.token_logprobs(logits, label, 0.5).item() == pytest.approx(math.log(9 / 10))


def test_entropy_is_that_of_the_tempered_distribution() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1000.0, 0.0, 0.0]])
    assert losses.entropy(logits).tolist() == pytest.approx([math.log(4), 0.0])
    quarter = losses.entropy(torch.tensor([[0.0, math.log(3.0)]])).item()
    assert quarter == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))


def pairs(k: int) -> Tensor:
    return torch.ones(k, k, dtype=torch.bool).triu(1).unsqueeze(0)


def test_ranking_loss_starts_at_ln_2_for_every_k() -> None:
    for k in (2, 3, 5):
        loss, right, count = losses.ranking_loss(torch.zeros(1, k), pairs(k))
        assert loss.item() == pytest.approx(LN2)
        assert (right.item(), count.item()) == (0, k * (k - 1) // 2)


def test_ranking_loss_is_the_mean_over_all_pairs_of_a_prompt() -> None:
    loss, right, count = losses.ranking_loss(torch.tensor([[2.0, 1.0, 1.5]]), pairs(3))
    by_hand = sum(math.log(1 + math.exp(-d)) for d in (1.0, 0.5, -0.5)) / 3
    assert loss.item() == pytest.approx(by_hand)
    assert (right.item(), count.item()) == (2, 3)


def test_pairs_outside_the_mask_do_not_count() -> None:
    mask = pairs(3)
    mask[0, 1, 2] = False  # two equal answers
    loss, _, count = losses.ranking_loss(torch.tensor([[2.0, 1.0, 1.0]]), mask)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.0)))
    assert count.item() == 2


def test_centring_pulls_the_sum_of_a_pair_to_zero() -> None:
    assert losses.centring_loss(torch.tensor([[1.0, -1.0]]), pairs(2)).item() == 0.0
    assert losses.centring_loss(torch.tensor([[3.0, 1.0]]), pairs(2)).item() == pytest.approx(16.0)


def test_kl_estimators() -> None:
    log_p, log_q = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert losses.kl_estimate(log_p, log_q, "k1").item() == pytest.approx(LN2)
    assert losses.kl_estimate(log_p, log_q, "k2").item() == pytest.approx(LN2**2 / 2)
    assert losses.kl_estimate(log_p, log_q, "k3").item() == pytest.approx(0.5 - 1 + LN2)
    with pytest.raises(ValueError, match="k9"):
        losses.kl_estimate(log_p, log_q, "k9")


def test_kl_estimators_agree_with_the_true_kl_in_expectation() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    true = (p * (p / q).log()).sum().item()
    for kind in ("k1", "k3"):
        estimate = (p * losses.kl_estimate(p.log(), q.log(), kind)).sum().item()
        assert estimate == pytest.approx(true, abs=1e-6)


def test_shaped_rewards_charge_kl_everywhere_and_pay_the_score_at_the_last_token() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    kl = torch.tensor([[0.1, 0.2, 0.3], [0.5, float("nan"), 9.0], [9.0, 9.0, 9.0]])
    rewards = losses.shaped_rewards(torch.tensor([2.0, -1.0, 7.0]), kl, mask, 0.1)
    expected = [[-0.01, -0.02, 1.97], [-1.05, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert torch.allclose(rewards, torch.tensor(expected))


def test_gae_by_hand() -> None:
    # gamma 0.9, lambda 0.5; values 1, 2, 3; rewards 0, 0, 1
    # deltas: 0 + .9*2 - 1 = .8;  0 + .9*3 - 2 = .7;  1 + 0 - 3 = -2
    # A3 = -2; A2 = .7 + .45*(-2) = -.2; A1 = .8 + .45*(-.2) = .71
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, returns = losses.gae(
        torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0]]), mask, 0.9, 0.5
    )
    assert torch.allclose(advantages, torch.tensor([[0.71, -0.2, -2.0]]))
    assert torch.allclose(returns, torch.tensor([[1.71, 1.8, 1.0]]))


def test_gae_with_lambda_1_returns_what_is_still_to_come_and_ignores_padding() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, float("nan")]])
    values = torch.tensor([[0.3, -5.0, 2.0], [7.0, 7.0, float("nan")]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    _, returns = losses.gae(rewards, values, mask, 1.0, 1.0)
    assert torch.allclose(returns, torch.tensor([[7.0, 6.0, 4.0], [3.0, 2.0, 0.0]]))


def test_whitening_is_masked_and_the_same_over_two_ranks_as_over_one() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 100.0, -100.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    white = losses.whiten(values, mask)
    assert torch.allclose(
        white[mask], (torch.tensor([1.0, 2.0, 3.0, 4.0]) - 2.5) / math.sqrt(1.25), atol=1e-6
    )
    assert white[1, 1:].tolist() == [0.0, 0.0]
    # two ranks, a row each: the sums that the other rank would add are fed by hand
    others = iter([torch.tensor([4.0, 1.0]), torch.tensor([2.25])])
    first = losses.whiten(values[:1], mask[:1], lambda own: own + next(others))
    assert torch.allclose(first, white[:1])


def test_policy_loss_is_minus_the_advantage_at_ratio_1_and_clips_on_the_greedy_side_alone() -> None:
    zero = torch.zeros(2)
    loss, clipped = losses.policy_loss(zero, zero, torch.tensor([1.0, -2.0]), 0.2)
    assert (loss.item(), clipped.item()) == (1.0, 0)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5]).log()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss, clipped = losses.policy_loss(ratio, torch.zeros(4), advantages, 0.2)
    assert loss.item() == pytest.approx(-1.2 + 1.5 - 0.5 + 0.8)
    assert clipped.item() == 2


def test_policy_loss_has_a_gradient_at_ratio_1() -> None:
    logprobs = torch.zeros(1, requires_grad=True)
    losses.policy_loss(logprobs, logprobs.detach(), torch.tensor([3.0]), 0.2)[0].backward()
    assert logprobs.grad is not None
    assert logprobs.grad.item() == -3.0


def test_value_loss_takes_the_larger_error() -> None:
    values, old = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
    loss, clipped = losses.value_loss(values, old, torch.tensor([1.0, 3.0]), 0.2)
    assert loss.item() == pytest.approx(0.5 * (0.8**2 + 2.0**2))
    assert clipped.item() == 1


def test_logprobs_and_entropy_from_one_softmax_and_their_gradients_by_hand() -> None:
    logits, labels = torch.randn(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5, 0.1, -1.0])
    for temperature in (1.0, 0.7):
        logprobs, entropy = losses.logprobs_and_entropy(logits, labels, temperature)
        assert torch.allclose(logprobs, losses.token_logprobs(logits, labels, temperature))
        assert torch.allclose(entropy, losses.entropy(logits, temperature))
        p = (logits / temperature).softmax(1)
        h = -(p * p.log()).sum(1, keepdim=True)
        by_logprob = (torch.eye(5)[labels] - p) * weights.unsqueeze(1) / temperature
        by_entropy = -p * (p.log() + h) * weights.flip(0).unsqueeze(1) / temperature
        for use, wanted in (((1, 0), by_logprob), ((0, 1), by_entropy), ((1, 1), by_logprob + by_entropy)):
            given = logits.clone().requires_grad_()
            logprobs, entropy = losses.logprobs_and_entropy(given, labels, temperature)
            (use[0] * logprobs * weights + use[1] * entropy * weights.flip(0)).sum().backward()
            assert given.grad is not None
            assert torch.allclose(given.grad, wanted, atol=1e-6)


def test_an_impossible_token_adds_no_entropy_and_no_nan() -> None:
    logits = torch.tensor([[0.0, 0.0, -400.0]], requires_grad=True)
    _, entropy = losses.logprobs_and_entropy(logits, torch.tensor([0]))
    entropy.sum().backward()
    assert entropy.item() == pytest.approx(LN2)
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.zeros(1, 3), atol=1e-7)


def test_margins_ask_for_more() -> None:
    margins = torch.tensor([[[0.0, 0.5], [-0.5, 0.0]]])
    loss, right, _ = losses.ranking_loss(torch.tensor([[2.0, 1.8]]), pairs(2), margins)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(0.3)))
    assert right.item() == 1  # the order is right, the distance is not


def test_leave_one_out_by_hand() -> None:
    # 1, 2, 6: means of the others 4, 3.5, 1.5
    found = losses.leave_one_out(torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]))
    assert torch.allclose(found, torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))


def test_group_relative_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])  # mean 3, deviation sqrt((4+1+9)/2) = sqrt 7
    found = losses.group_relative(scores, scale=True)
    assert torch.allclose(found[0], torch.tensor([-2.0, -1.0, 3.0]) / math.sqrt(7), atol=1e-4)
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert losses.group_relative(scores, scale=False)[0].tolist() == [-2.0, -1.0, 3.0]


def test_the_adaptive_kl_coefficient_by_hand() -> None:
    assert losses.adapted_kl_coef(0.1, 6.6, 6.0, 10000, 64) == pytest.approx(0.1 * (1 + 0.1 * 64 / 10000))
    assert losses.adapted_kl_coef(0.1, 60.0, 6.0, 64, 64) == pytest.approx(0.12)  # the error is clipped at 0.2
    assert losses.adapted_kl_coef(0.1, 0.0, 6.0, 64, 64) == pytest.approx(0.08)


def test_dpo_by_hand() -> None:
    chosen, rejected = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 0.0])  # margins 2 and -2
    loss, right = losses.dpo_loss(chosen, rejected, 0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)))
    assert right.item() == 1
    assert losses.dpo_loss(chosen[:1], rejected[:1], 0.25, "hinge")[0].item() == pytest.approx(0.5)
    smooth = losses.dpo_loss(chosen[:1], rejected[:1], 0.5, label_smoothing=0.1)[0].item()
    assert smooth == pytest.approx(0.9 * math.log(1 + math.exp(-1)) + 0.1 * math.log(1 + math.exp(1)))
    zero = torch.zeros(3)
    assert losses.dpo_loss(zero, zero, 0.1)[0].item() == pytest.approx(3 * LN2)
    with pytest.raises(ValueError, match="ipo"):
        losses.dpo_loss(zero, zero, 0.1, "ipo")
