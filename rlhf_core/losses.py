"""The mathematics of every stage: pure functions on tensors, no model, no process group.

Notation: B rows, T response tokens, K responses, V vocabulary, N selected tokens. Masks are bool, True = counts.
Where a sum runs over ranks, the caller passes `reduce`, which adds a tensor up over all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


def alone(tensor: Tensor) -> Tensor:
    """`reduce` of a single process."""
    return tensor


# Log-probabilities


def token_logprobs(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """log p(label) under softmax(logits / temperature), in nats.

    logits (N, V), labels (N,) int64 -> (N,) float32. The temperature must be that of the sampling, or the
    probability ratio of PPO is not 1 for the policy that wrote the tokens.
    """
    return -F.cross_entropy(_tempered(logits, temperature), labels, reduction="none")


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(logits / temperature) in nats: (N, V) -> (N,) float32."""
    logprobs = F.log_softmax(_tempered(logits, temperature), dim=-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    """Float32; no copy where there is nothing to divide (logits are the largest tensors of a small model)."""
    return logits.float() if temperature == 1.0 else logits.float() / temperature


# Supervised


def ranking_loss(scores: Tensor, pair_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over pairs of -log sigmoid(better - worse), with pairs right and pairs counted.

    InstructGPT (Ouyang et al. 2022, eq. 1): the mean over all C(K,2) pairs of a prompt, then over prompts; each
    pair here has the weight 1 / (pairs of its prompt), and the caller divides by the number of prompts.
    scores (B, K), best first; pair_mask (B, K, K) bool, True at [b, i, j] where i < j counts.
    Returns (sum of the prompts' mean losses, pairs with better > worse, pairs), scalars. Loss starts at B * ln 2
    where all scores are equal.
    """
    difference = scores.unsqueeze(2) - scores.unsqueeze(1)
    pairs = pair_mask.sum(dim=(1, 2))
    losses = torch.where(pair_mask, -F.logsigmoid(difference), 0.0).sum(dim=(1, 2))
    right = (pair_mask & (difference > 0)).sum()
    return (losses / pairs.clamp(min=1)).sum(), right, pairs.sum()


def centring_loss(scores: Tensor, pair_mask: Tensor) -> Tensor:
    """Sum over prompts of the mean over pairs of (better + worse)^2, which keeps scores near 0.

    Eisenstein et al. 2023, "Helping or Herding", eq. 2 (TRL's center_rewards_coefficient).
    """
    total = scores.unsqueeze(2) + scores.unsqueeze(1)
    pairs = pair_mask.sum(dim=(1, 2)).clamp(min=1)
    return (torch.where(pair_mask, total.square(), 0.0).sum(dim=(1, 2)) / pairs).sum()


# Reinforcement


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: str = "k1") -> Tensor:
    """Per-token estimate of KL(policy || ref) from tokens that the policy sampled, in nats.

    Schulman 2020, "Approximating KL divergence": k1 = log p/q (unbiased, may be negative), k2 = half its square,
    k3 = q/p - 1 - log q/p (unbiased, never negative).
    """
    difference = logprobs - ref_logprobs
    if kind == "k1":
        return difference
    if kind == "k2":
        return 0.5 * difference.square()
    if kind == "k3":
        return torch.expm1(-difference) + difference
    raise ValueError(f"unknown KL estimator {kind!r}")


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Per-token rewards: -kl_coef * kl at every token, plus the score at each row's last token.

    scores (B,), kl (B, T), mask (B, T) with the response at its beginning -> (B, T). DeepSpeed-Chat,
    ppo_trainer.py, compute_rewards. Rows without any token stay 0.
    """
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    lengths = mask.sum(dim=1)
    rows = torch.nonzero(lengths > 0).squeeze(1)
    rewards[rows, lengths[rows] - 1] += scores[rows]
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16): (advantages, returns), both (B, T).

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lam A_{t+1}, returns = A + V. values[t] is the value
    of the state in which token t is chosen; after the last token of a row the value is 0. 0 where mask is False.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    next_value = torch.zeros_like(rewards[:, 0])
    next_advantage = torch.zeros_like(next_value)
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(mask[:, t], delta + gamma * lam * next_advantage, 0.0)
        next_value = values[:, t]
        advantages[:, t] = next_advantage
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(values: Tensor, mask: Tensor, reduce: Reduce = alone, eps: float = 1e-8) -> Tensor:
    """(values - mean) / deviation over the masked entries of all ranks; 0 where mask is False.

    The variance is the population's (divided by n), so that one rank and two give the same.
    """
    kept = values[mask].double()
    sums = reduce(
        torch.stack([kept.sum(), torch.tensor(float(kept.numel()), dtype=torch.float64, device=kept.device)])
    )
    mean = sums[0] / sums[1].clamp(min=1)
    variance = reduce((kept - mean).square().sum().reshape(1))[0] / sums[1].clamp(min=1)
    scaled = (values.double() - mean) * torch.rsqrt(variance + eps)
    return torch.where(mask, scaled, 0.0).to(values.dtype)


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """PPO's clipped objective (Schulman et al. 2017, eq. 7), negated: (sum over tokens, clipped tokens), from (N,)."""
    ratio = (logprobs - old_logprobs).exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(unclipped, clipped).sum(), (clipped > unclipped).sum()


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """Half the larger of the squared errors of the value and of the value clipped to old +- clip_range.

    DeepSpeed-Chat, ppo_trainer.py, critic_loss_fn. Returns (sum over tokens, clipped tokens), from (N,).
    """
    near = torch.maximum(torch.minimum(values, old_values + clip_range), old_values - clip_range)
    unclipped, clipped = (values - returns).square(), (near - returns).square()
    return 0.5 * torch.maximum(unclipped, clipped).sum(), (clipped > unclipped).sum()
