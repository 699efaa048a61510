"""The mathematics of every stage: pure functions on tensors, no model, no process group.

Notation: B rows, T response tokens, K responses, V vocabulary, N selected tokens. Masks are bool, True = counts.
Where a sum runs over ranks, the caller passes `reduce`, which adds a tensor up over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def logprobs_and_entropy(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """`token_logprobs` and `entropy` from one softmax: (N,) and (N,) float32, both with gradients."""
    return _logprobs_and_entropy(_tempered(logits, temperature), labels)


class _LogprobsAndEntropy(torch.autograd.Function):
    """The probabilities that the entropy needs are those of the gradients: d log p(label) = onehot - p,
    dH = -p log p - p H. Nothing else of the vocabulary's width is kept."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logprobs, labels = F.log_softmax(logits, dim=-1), labels.unsqueeze(1)
        p = logprobs.exp()
        chosen = logprobs.gather(1, labels).squeeze(1)
        entropies = -logprobs.mul_(p).sum(-1)
        ctx.save_for_backward(p, labels, entropies)
        ctx.set_materialize_grads(False)
        return chosen, entropies

    @staticmethod
    def backward(ctx: Any, by_logprob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor, None]:
        p, labels, entropies = ctx.saved_tensors
        d_logits = torch.zeros_like(p) if by_logprob is None else p * -by_logprob.unsqueeze(1)
        if by_logprob is not None:
            d_logits.scatter_add_(1, labels, by_logprob.unsqueeze(1))
        if by_entropy is not None:
            d_logits.addcmul_(torch.special.entr(p) - p * entropies.unsqueeze(1), by_entropy.unsqueeze(1))
        return d_logits, None


_logprobs_and_entropy: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _LogprobsAndEntropy.apply


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    """Float32; no copy where there is nothing to divide (logits are the largest tensors of a small model)."""
    return logits.float() if temperature == 1.0 else logits.float() / temperature


# Supervised


def ranking_loss(
    scores: Tensor, pair_mask: Tensor, margins: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over pairs of -log sigmoid(better - worse - margin), with pairs right and pairs counted.

    InstructGPT (Ouyang et al. 2022, eq. 1): the mean over all C(K,2) pairs of a prompt, then over prompts; each
    pair here has the weight 1 / (pairs of its prompt), and the caller divides by the number of prompts. Margins as
    in Llama 2 (Touvron et al. 2023, eq. 2).
    scores (B, K), best first; pair_mask (B, K, K) bool, True at [b, i, j] where i < j counts; margins (B, K, K).
    Returns (sum of the prompts' mean losses, pairs with better > worse, pairs), scalars. Loss starts at B * ln 2
    where all scores are equal and no margin is asked for.
    """
    difference = scores.unsqueeze(2) - scores.unsqueeze(1)
    pairs = pair_mask.sum(dim=(1, 2))
    wanted = difference if margins is None else difference - margins
    losses = torch.where(pair_mask, -F.logsigmoid(wanted), 0.0).sum(dim=(1, 2))
    right = (pair_mask & (difference > 0)).sum()
    return (losses / pairs.clamp(min=1)).sum(), right, pairs.sum()


def centring_loss(scores: Tensor, pair_mask: Tensor) -> Tensor:
    """Sum over prompts of the mean over pairs of (better + worse)^2, which keeps scores near 0.

    Eisenstein et al. 2023, "Helping or Herding", eq. 2 (TRL's center_rewards_coefficient).
    """
    total = scores.unsqueeze(2) + scores.unsqueeze(1)
    pairs = pair_mask.sum(dim=(1, 2)).clamp(min=1)
    return (torch.where(pair_mask, total.square(), 0.0).sum(dim=(1, 2)) / pairs).sum()


def dpo_loss(
    chosen: Tensor, rejected: Tensor, beta: float, kind: str = "sigmoid", label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum over pairs of the preference loss of two implicit rewards, with the pairs in the right order.

    chosen, rejected (B,): log p/ref of the whole answer, in nats (reference-free: log p alone). sigmoid: Rafailov et
    al. 2023, eq. 7, with label smoothing as in Mitchell 2023 (cDPO), ln 2 a pair at the start; hinge: Zhao et al.
    2023 (SLiC-HF), 1 a pair at the start.
    """
    logits = beta * (chosen - rejected)
    if kind == "sigmoid":
        losses = -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)
    elif kind == "hinge":
        losses = F.relu(1 - logits)
    else:
        raise ValueError(f"unknown DPO loss {kind!r}")
    return losses.sum(), (logits > 0).sum()


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


def leave_one_out(scores: Tensor) -> Tensor:
    """RLOO's advantages (Ahmadian et al. 2024, eq. 6): each score less the mean of its prompt's *other* scores.

    scores (P, K), K >= 2 answers a prompt -> (P, K).
    """
    return (scores - scores.mean(1, keepdim=True)) * (scores.shape[1] / (scores.shape[1] - 1))


def group_relative(scores: Tensor, scale: bool, eps: float = 1e-4) -> Tensor:
    """GRPO's advantages (Shao et al. 2024, section 4.1.2): each score less its prompt's mean, over the deviation.

    scores (P, K) -> (P, K). The deviation is the sample's (divided by K-1), as in TRL; a group of equal scores has
    advantage 0. scale=False leaves the division out (Liu et al. 2025, Dr. GRPO).
    """
    centred = scores - scores.mean(1, keepdim=True)
    return centred / (scores.std(1, keepdim=True) + eps) if scale else centred


def adapted_kl_coef(kl_coef: float, kl: float, target: float, horizon: float, answers: int) -> float:
    """The next KL coefficient (Ziegler et al. 2019, eq. 3): up where `kl` is above `target` (nats a response)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * answers / horizon)


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
