"""A model under evaluation: how it is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlhf_core.dataset.chat_template import Chat, load_chat
from rlhf_core.dataset.records import Record
from rlhf_core.evaluation.answers import Answer
from rlhf_core.generation.rollout import Rollout, generate, noise
from rlhf_core.job.inputs import Inputs
from rlhf_core.models.networks import PolicyModel, load_policy

_ROWS = 128  # answers written at once
_BOUNDLESS = 1 << 20  # tokens, for a model whose configuration names no limit


@dataclass(frozen=True)
class Candidate:
    """A language model with its chat. `plain`: it has never seen a role mark, so it is given the bare question to go on from."""

    name: str
    kind: str  # of its training stage, or `other`
    chat: Chat
    policy: PolicyModel
    plain: bool

    @property
    def context(self) -> int:
        """Tokens that the model has positions for."""
        return int(getattr(self.policy.model.config, "max_position_embeddings", None) or _BOUNDLESS)

    def encode(self, prompts: list[Record]) -> list[list[int]]:
        if not self.plain:
            return self.chat.prompts(prompts)
        texts = self.chat.plain([prompt.turns[-1].text.strip() + "\n" for prompt in prompts])
        return [[self.chat.end_id, *ids] for ids in texts]

    def answer(self, prompts: list[Record], new_tokens: int, seed: int | None = None) -> tuple[list[Rollout], list[Answer | None]]:
        """Answers of at most `new_tokens` tokens, greedy, or drawn at temperature 1 with `seed`; None for a prompt that leaves
        no room for them in the model's context. The rollouts hold the others, in order."""
        ids = self.encode(prompts)
        fitting = [place for place, prompt in enumerate(ids) if len(prompt) + new_tokens <= self.context]
        rollouts: list[Rollout] = []
        found: list[Answer | None] = [None] * len(prompts)
        for start in range(0, len(fitting), _ROWS):
            places = fitting[start : start + _ROWS]
            uniforms = None if seed is None else noise(seed, start, len(places), new_tokens)
            rollout = generate(self.policy.model, self.chat, [ids[place] for place in places], new_tokens, 1.0, uniforms)
            for place, tokens, finished in zip(places, rollout.responses(), rollout.finished.tolist(), strict=True):
                found[place] = Answer(self.chat.decode(tokens), tokens, finished)
            rollouts.append(rollout)
        return rollouts, found


def load_candidate(inputs: Inputs, role: str, device: torch.device, precision: str = "fp32") -> Candidate:
    """The model of a role `KIND:NAME`."""
    kind, _, name = role.partition(":")
    source = inputs.model(role)
    chat = load_chat(source)
    policy: Any = load_policy(source, chat, precision).to(device).eval()
    plain = kind == "pretrain" or "chat template" in chat.added
    return Candidate(name, kind, chat, policy, plain)
