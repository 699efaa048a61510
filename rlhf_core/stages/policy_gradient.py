"""The policy gradient behind PPO, RLOO and GRPO (Schulman et al. 2017): a rollout, advantages, clipped updates.

Nothing is computed twice where it need not be. The first update starts from the policy that wrote the answers: with one
minibatch, its own pass gives the old log-probabilities and values too. With one update in all, the log-probabilities
of the sampling serve the KL, and the old ones are never needed.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import TokenBatch, micro_slices
from rlhf_core.dataset.token_store import tokenized
from rlhf_core.ema import Ema
from rlhf_core.engine import Ranks
from rlhf_core.job.inputs import Inputs, check_length
from rlhf_core.losses import adapted_kl_coef, kl_estimate, policy_loss
from rlhf_core.models.networks import DTYPES
from rlhf_core.settings import PolicyGradientStage
from rlhf_core.stages.actors import Actor, Pass
from rlhf_core.stages.answers import Answers
from rlhf_core.stages.on_policy import Likelihood, OnPolicy, spread
from rlhf_core.stages.ptx import Ptx


@dataclass(frozen=True)
class Experience:
    """One rank's rollout, ready for updates. (B, T) tensors are over response tokens, 0 outside the mask.

    sequences      prompts and answers, right-padded
    mask           (B, T) bool
    old_logprobs   (B, T) of the policy that wrote the tokens
    ref_logprobs   (B, T) of the policy that training began with
    advantages     (B, T), divided by nothing: the loss is their sum over tokens, divided by the batch's weight
    by_rows        the batch's weight is its number of answers, not of tokens
    old_values     (B, T) value of the state before each token, or None without a critic
    returns        (B, T), or None
    """

    sequences: TokenBatch
    mask: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    advantages: Tensor
    by_rows: bool = False
    old_values: Tensor | None = None
    returns: Tensor | None = None


class PolicyGradient(OnPolicy):
    """Subclasses: `experience`; and, where there is a critic, the actor and how its values are taught."""

    settings: PolicyGradientStage

    def __init__(self, settings: PolicyGradientStage, inputs: Inputs, ranks: Ranks) -> None:
        self.updates_a_pass = settings.minibatches
        super().__init__(settings, inputs, ranks)
        self.actor = self.make_actor(inputs)
        self.actor.rate = settings.optimizer.learning_rate
        self.kl_coef = settings.kl_coef
        self.ema = None
        if settings.ema_decay is not None:
            self.ema = Ema(copy.deepcopy((self.writer or self.reference).model), settings.ema_decay, ranks)
        self.ptx = None
        if settings.ptx_data is not None:
            check_length(settings, self.policy.module.model)
            documents = tokenized(inputs.folder("ptx"), self.chat, inputs.scratch("tokens"), ranks)
            rows, end_id = settings.batch_size, self.chat.end_id
            self.ptx = Ptx(documents, end_id, settings.max_length, rows, settings.seed, ranks.device)

    def make_actor(self, inputs: Inputs) -> Actor:
        return Actor(self.policy)

    @abstractmethod
    def experience(self, answers: Answers, live: Pass | None) -> tuple[Experience, Tensor]:
        """What to learn from a rollout, and its (B, T) log-ratios to the reference. `live` is the pass of the coming
        update, where its values serve as the old ones."""

    @property
    def single(self) -> bool:
        """One update a rollout: its ratio is 1, and its own pass gives the old log-probabilities."""
        return self.settings.ppo_epochs * self.settings.minibatches == 1

    # What the loop asks for

    @property
    def engines(self) -> dict[str, Any]:
        return self.actor.engines | ({"ema": self.ema} if self.ema else {})

    def begin(self, state: dict[str, Any]) -> None:
        super().begin(state)
        self.kl_coef = state.get("kl_coef", self.kl_coef)

    def state(self) -> dict[str, Any]:
        return super().state() | {"kl_coef": self.kl_coef}

    def save(self, folder: Path) -> None:
        if self.ema is None:
            self.save_policy(folder)
        elif self.ranks.is_main:
            self.policy.module.save(folder, self.chat, self.ema.state(DTYPES[self.settings.precision]))

    @property
    def likelihood(self) -> Likelihood:
        return self.actor.likelihood

    def step(self, step: int, rate_share: float) -> dict[str, float]:
        settings = self.settings
        answers = self.roll(step)
        live = self._live(answers)
        data, kl = self.experience(answers, live)
        sums: dict[str, Any] = {}
        norms: dict[str, float] = {}  # summed over the updates; the same on all ranks
        updates = 0
        for number in range(settings.ppo_epochs * settings.minibatches):
            more, found = self._update(data, number % settings.minibatches, step, rate_share, live)
            live, updates = None, updates + 1
            norms = {name: norms.get(name, 0.0) + norm for name, norm in found.items()}
            for name, value in more.items():
                sums[name] = sums.get(name, 0.0) + value
            if settings.kl_stop and self._moved(more) > settings.kl_stop:
                break
        if self.ema is not None:
            self.ema.update(self._whole_policy())
        totals = {name: value / updates for name, value in self.ranks.sums(sums).items()}
        figures = {"loss": totals.pop("loss"), **self.figures(answers, kl), **totals, **{name: norm / updates for name, norm in norms.items()}}
        figures |= self.critic_figures(data)
        figures |= {"learning_rate": settings.optimizer.learning_rate * rate_share}
        if settings.kl_target is not None:
            figures["kl_coef"] = self.kl_coef
            self.kl_coef = adapted_kl_coef(
                self.kl_coef, figures["kl"], settings.kl_target, settings.kl_horizon, settings.batch_size
            )
        if settings.kl_stop is not None:
            figures["updates"] = float(updates)
        return figures

    # An iteration

    def _live(self, answers: Answers) -> Pass | None:
        """The pass of the first update, made before the advantages are known, where it is one pass over all rows."""
        if self.settings.minibatches > 1 or self.accumulation > 1:
            return None
        return self.actor(self.sequences(answers.rollout), self.settings.temperature)

    def reference_logprobs(
        self, answers: Answers, sequences: TokenBatch, live: Pass | None
    ) -> tuple[Tensor, Tensor]:
        """(old, ref) log-probabilities of the response tokens, (B, T) each."""
        mask = answers.rollout.response_mask
        with torch.no_grad():
            ref = self.logprobs(self.reference, sequences, mask)
            if live is None and not self.single:
                return self.logprobs(self.likelihood, sequences, mask), ref
        if live is None or self.single:
            return answers.rollout.logprobs, ref
        return spread(live.likelihood[0].detach(), mask), ref

    def kl_in_loss(self) -> float:
        """Weight of the KL that is part of the loss (GRPO), not of the reward."""
        return 0.0

    def _update(
        self, data: Experience, minibatch: int, step: int, rate_share: float, live: Pass | None
    ) -> tuple[dict[str, Any], dict[str, float]]:
        settings, size = self.settings, len(data.mask) // self.settings.minibatches
        first = minibatch * size
        tokens = float(self.ranks.reduce(data.mask[first : first + size].sum()))
        weight = float(size * self.ranks.world) if data.by_rows else tokens
        sums: dict[str, Any] = {}
        for part in micro_slices(size, self.micro, self.accumulation):
            rows = slice(first + part.start, first + part.stop)
            mask, sequences = data.mask[rows], data.sequences.rows(rows)
            said = live or self.actor(sequences, settings.temperature)
            rest = self.learn_values(said, data, rows, tokens, sums)
            logprobs, entropy = said.likelihood
            # The only update of a rollout starts from the policy that wrote it: the ratio is 1, its gradient is not.
            old = logprobs.detach() if self.single else data.old_logprobs[rows][mask]
            surrogate, clipped = policy_loss(logprobs, old, data.advantages[rows][mask], settings.clip_range)
            loss = surrogate / weight
            if settings.entropy_coef:
                loss = loss - settings.entropy_coef * entropy.sum() / tokens
            if self.kl_in_loss():
                away = kl_estimate(logprobs, data.ref_logprobs[rows][mask], "k3")
                loss = loss + self.kl_in_loss() * (away * self.token_weights(mask)).sum() / weight
            if self.ptx is not None:
                pretraining = self.ptx.loss(self.likelihood, step, self.own, rows, settings.minibatches)
                loss = loss + settings.ptx_coef * pretraining
                add(sums, "ptx_loss", pretraining.detach())
            self.actor.backward(loss + rest)
            with torch.no_grad():
                log_ratio = logprobs - old
                add(sums, "loss", surrogate.detach() / weight)
                add(sums, "clip_share", clipped / tokens)
                add(sums, "entropy", entropy.detach().sum() / tokens)
                add(sums, "ratio", log_ratio.exp().sum() / tokens)
                zeros = torch.zeros_like(log_ratio)
                add(sums, "approx_kl", kl_estimate(-log_ratio, zeros, "k3").sum() / tokens)
        return sums, self.actor.step(rate_share)

    def learn_values(self, said: Pass, data: Experience, rows: slice, tokens: float, sums: dict[str, Any]) -> Tensor | float:
        """Teach the critic these rows, before the policy is asked; returns what its backbone is to learn with the policy's loss.
        `sums` gets its figures, parts of means over `tokens`."""
        return 0.0

    def critic_figures(self, data: Experience) -> dict[str, float]:
        """What is reported of the values of a rollout, over all ranks."""
        return {}

    def token_weights(self, mask: Tensor) -> Tensor:
        """(N,) of the response tokens that count, row by row."""
        return torch.ones(int(mask.sum()), device=mask.device)

    def _moved(self, sums: dict[str, Any]) -> float:
        return self.ranks.sums({"approx_kl": sums["approx_kl"]})["approx_kl"]

    def _whole_policy(self) -> Any:
        if self.writer is not None:
            self.policy.copy_to(self.writer)
        return (self.writer or self.policy.module).model


def add(sums: dict[str, Any], name: str, value: Any) -> None:
    sums[name] = sums.get(name, 0.0) + value
