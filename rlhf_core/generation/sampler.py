"""Who writes a stage's answers: the job itself, or a server (`rlhf_core.generation.vllm_rollout`)."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.engine import Engine
from rlhf_core.generation.rollout import Rollout, generate


class Sampler(Protocol):
    """All ranks call every method together."""

    def refresh(self) -> None:
        """The policy's weights have changed since the last answers."""

    def answers(self, prompts: list[list[int]], limit: int, uniforms: Tensor) -> Rollout:
        """Continue this rank's prompts by at most `limit` tokens; uniforms (B, T) float64 in [0, 1) are their chance."""


class OwnSampler:
    """The policy itself, or, where its weights lie in pieces or under adapters, a whole and merged copy (`writer`)."""

    def __init__(self, policy: Engine, writer: Any | None, chat: Chat, temperature: float) -> None:
        self.policy, self.writer, self.chat, self.temperature = policy, writer, chat, temperature

    def refresh(self) -> None:
        if self.writer is not None:
            self.policy.copy_to(self.writer)

    def answers(self, prompts: list[list[int]], limit: int, uniforms: Tensor) -> Rollout:
        model = (self.writer or self.policy.module).model
        training = model.training
        model.eval()  # in training, gradient checkpointing leaves the key-value cache out: every token would be alone
        try:
            return generate(model, self.chat, prompts, limit, self.temperature, uniforms)
        finally:
            model.train(training)
