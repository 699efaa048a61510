"""RLOO and GRPO: several answers of a prompt are each other's baseline, so no value model is needed."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_core.losses import group_relative, kl_estimate, leave_one_out
from rlhf_core.settings import GrpoStage, RlooStage
from rlhf_core.stages.actors import Pass
from rlhf_core.stages.answers import Answers
from rlhf_core.stages.policy_gradient import Experience, PolicyGradient


class Rloo(PolicyGradient):
    """The whole answer is one action (Ahmadian et al. 2024): its reward is the score less kl_coef times its KL, its
    advantage that reward less the mean of the prompt's others, and the loss is the mean over answers."""

    settings: RlooStage

    def experience(self, answers: Answers, live: Pass | None) -> tuple[Experience, Tensor]:
        sequences, mask = self.sequences(answers.rollout), answers.rollout.response_mask
        old, ref = self.reference_logprobs(answers, sequences, live)
        kl = torch.where(mask, kl_estimate(old, ref), 0.0)
        rewards = answers.scores - self.kl_coef * kl.sum(1)
        advantages = leave_one_out(rewards.view(-1, self.settings.samples)).view(-1, 1)
        return Experience(sequences, mask, old, ref, advantages * mask, by_rows=True), kl


class Grpo(PolicyGradient):
    """Every token has its answer's advantage relative to the group; the KL (k3) is in the loss (Shao et al. 2024)."""

    settings: GrpoStage

    def experience(self, answers: Answers, live: Pass | None) -> tuple[Experience, Tensor]:
        sequences, mask = self.sequences(answers.rollout), answers.rollout.response_mask
        old, ref = self.reference_logprobs(answers, sequences, live)
        kl = torch.where(mask, kl_estimate(old, ref), 0.0)
        groups = answers.scores.view(-1, self.settings.samples)
        advantages = group_relative(groups, self.settings.scale_advantages).view(-1, 1) * mask
        if self._by_response:
            advantages = advantages / mask.sum(1, keepdim=True).clamp(min=1)
        return Experience(sequences, mask, old, ref, advantages, by_rows=self._by_response), kl

    def kl_in_loss(self) -> float:
        return self.kl_coef

    def token_weights(self, mask: Tensor) -> Tensor:
        if not self._by_response:
            return super().token_weights(mask)
        return (1.0 / mask.sum(1, keepdim=True).clamp(min=1)).expand(mask.shape)[mask]

    @property
    def _by_response(self) -> bool:
        return self.settings.mean_over == "response"
