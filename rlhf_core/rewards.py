"""Scores of answers: from a reward model, normalised, clipped, with a penalty for answers that do not end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf_core.batches import TokenBatch, pad_right
from rlhf_core.chat import Chat, Tokens
from rlhf_core.models import ScalarModel, score_at
from rlhf_core.records import Record
from rlhf_core.rollout import Rollout

_ROWS = 64


@dataclass(frozen=True)
class Normalisation:
    """score -> (score - mean) / std. The references' scores become mean 0 and deviation 1."""

    mean: float = 0.0
    std: float = 1.0


def normalisation(total: float, squares: float, count: float) -> Normalisation:
    """From the sums of scores and of their squares over `count` references of all ranks."""
    mean = total / max(count, 1)
    variance = max(squares / max(count, 1) - mean * mean, 0.0)
    return Normalisation(mean, max(variance**0.5, 1e-3))


def final_scores(
    raw: Tensor, finished: Tensor, normal: Normalisation, reward_clip: float, missing_end_penalty: float
) -> Tensor:
    """What PPO is given: normalised, clipped to +- reward_clip, then the penalty where the answer did not end.

    raw (B,), finished (B,) bool -> (B,). The penalty comes after the clip, so that it is felt at its lower end too.
    """
    scores = ((raw - normal.mean) / normal.std).clamp(-reward_clip, reward_clip)
    return torch.where(finished, scores, scores - missing_end_penalty)


class RewardModel:
    """A frozen scorer. Where its vocabulary is not the policy's, answers are handed over as text."""

    def __init__(self, model: ScalarModel, chat: Chat, policy_chat: Chat, device: torch.device) -> None:
        self.model, self.chat, self.device = model.to(device).eval().requires_grad_(False), chat, device
        self.same_vocabulary = _same(chat, policy_chat)
        self.policy_chat = policy_chat

    @torch.no_grad()
    def score(self, sequences: TokenBatch) -> Tensor:
        """Score at the last real token of each row: (B,) float32 on the device."""
        parts = [
            sequences.rows(slice(i, i + _ROWS)).to(self.device)
            for i in range(0, len(sequences.lengths), _ROWS)
        ]
        return torch.cat([score_at(self.model(part.input_ids), part.lengths) for part in parts])

    def score_rollout(self, rollout: Rollout, prompts: list[Record]) -> Tensor:
        if self.same_vocabulary:
            return self.score(rollout.sequences(self.policy_chat.pad_id))
        texts = [self.policy_chat.decode(ids) for ids in rollout.responses()]
        return self.score_texts(prompts, texts, rollout.finished.tolist())

    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Tensor:
        """Answers given as text; one that did not end is scored without its end token."""
        rows = []
        for prompt, answer, ended in zip(
            self.chat.prompts(prompts), self.chat.answers(texts), finished, strict=True
        ):
            if not ended and self.chat.end_id in answer:
                answer = answer[: answer.index(self.chat.end_id)]
            rows.append(Tokens(prompt + answer, [False] * len(prompt) + [True] * len(answer)))
        return self.score(pad_right(rows, self.chat.pad_id))


def _same(a: Chat, b: Chat) -> bool:
    if a.tokenizer.chat_template != b.tokenizer.chat_template or a.end_id != b.end_id:
        return False
    mine: Any = a.tokenizer.get_vocab()
    return bool(mine == b.tokenizer.get_vocab())
