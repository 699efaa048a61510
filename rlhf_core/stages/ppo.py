"""PPO with four models: policy, reference, value and reward (Ouyang et al. 2022; Schulman et al. 2017).

One iteration: the policy answers a batch of prompts; the rewards score the answers; every token is charged kl_coef
times its log-ratio to the reference; GAE over the value model's estimates gives advantages; then clipped updates of
policy and value in ppo_epochs passes over minibatches.
"""

from __future__ import annotations

from typing import Any

import torch

from rlhf_core.dataset.batches import TokenBatch
from rlhf_core.dataset.chat_template import Chat
from rlhf_core.engine import Engine, split_on_loading
from rlhf_core.job.inputs import Inputs, check_length
from rlhf_core.losses import gae, kl_estimate, shaped_rewards, value_loss, whiten
from rlhf_core.models.networks import load_scalar
from rlhf_core.settings import PpoStage
from rlhf_core.stages.actors import Actor, Pass, PolicyWithValue, SeparateCritic, SharedCritic
from rlhf_core.stages.answers import Answers
from rlhf_core.stages.on_policy import spread
from rlhf_core.stages.policy_gradient import Experience, PolicyGradient, add


class Ppo(PolicyGradient):
    settings: PpoStage
    chat: Chat

    def trained(self, policy: Any) -> Any:
        if self.settings.value_backbone == "shared":
            return PolicyWithValue(policy.model, self.settings.seed)
        return policy

    def make_actor(self, inputs: Inputs) -> Actor:
        settings = self.settings
        if settings.value_backbone == "shared":
            return SharedCritic(self.policy)
        # A value model reads the policy's tokens: a reward model with another vocabulary cannot be its start.
        role = "value_init" if inputs.has("value_init") else self.scoring.critic_source or "init"
        self._critic_role = role
        with split_on_loading(settings.launch, settings.precision):
            value = load_scalar(
                inputs.model(role), self.chat, settings.precision, settings.seed, settings.launch.attention
            )
        check_length(settings, value.model, settings.max_prompt_length + settings.max_new_tokens)
        optimizer = settings.optimizer.model_copy(update={"learning_rate": settings.value_learning_rate})
        engine = Engine(
            value, optimizer, settings.launch, settings.precision, self.accumulation, self.ranks
        )
        return SeparateCritic(self.policy, engine, settings.value_learning_rate)

    def begin(self, state: dict[str, Any]) -> None:
        super().begin(state)
        if isinstance(self.actor, SeparateCritic) and self._critic_role in self.scoring.sources:
            self.actor.scale, self.actor.offset = self.scoring.as_reward(self._critic_role)

    def experience(self, answers: Answers, live: Pass | None) -> tuple[Experience, torch.Tensor]:
        settings, mask = self.settings, answers.rollout.response_mask
        sequences = self.sequences(answers.rollout)
        old, ref = self.reference_logprobs(answers, sequences, live)
        values = self._old_values(sequences, mask, live)
        kl = torch.where(mask, kl_estimate(old, ref), 0.0)
        rewards = shaped_rewards(answers.scores, kl, mask, self.kl_coef)
        advantages, returns = gae(rewards, values, mask, settings.gamma, settings.gae_lambda)
        if settings.whiten_advantages:
            advantages = whiten(advantages, mask, self.ranks.reduce)
        return Experience(sequences, mask, old, ref, advantages, False, values, returns), kl

    def learn_values(self, said: Pass, data: Experience, rows: slice, tokens: float, sums: dict[str, Any]) -> torch.Tensor | float:
        assert said.values is not None and data.old_values is not None and data.returns is not None
        settings, mask = self.settings, data.mask[rows]
        half, clipped = value_loss(said.values, data.old_values[rows][mask], data.returns[rows][mask], settings.value_clip_range)
        add(sums, "value_loss", half.detach() / tokens)
        add(sums, "value_clip_share", clipped / tokens)
        return self.actor.backward_values(settings.value_coef * half / tokens)

    def critic_figures(self, data: Experience) -> dict[str, float]:
        """`value_error`: the mean squared error of the values before the updates."""
        assert data.old_values is not None and data.returns is not None
        error = torch.where(data.mask, (data.old_values - data.returns).square(), 0.0)
        totals = self.ranks.sums({"error": error.sum(), "returns": data.returns.sum(), "tokens": data.mask.sum()})
        return {"value_error": totals["error"] / totals["tokens"], "return": totals["returns"] / totals["tokens"]}

    def _old_values(self, sequences: TokenBatch, mask: torch.Tensor, live: Pass | None) -> torch.Tensor:
        """Value of the state before each response token: (B, T)."""
        if live is not None and live.values is not None:
            return spread(live.values.detach(), mask)
        with torch.no_grad():
            found = [self.actor.values(sequences.rows(part)) for part in self.parts(len(mask))]
        return spread(torch.cat([values for values in found if values is not None]), mask)
