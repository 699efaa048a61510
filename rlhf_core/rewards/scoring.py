"""From the rewards of a stage to the one score of an answer: normalised, combined, clipped, then the penalties."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.dataset.records import Record
from rlhf_core.engine import Ranks
from rlhf_core.generation.rollout import Rollout
from rlhf_core.job.inputs import Inputs
from rlhf_core.rewards.sources import RewardModel, Scorer, finite, load_scorer
from rlhf_core.settings import Launch
from rlhf_core.settings.alignment import PatternPenalty, RewardOptions


@dataclass
class Scores:
    """All scores of one reward that were seen, as sums over all ranks; normalised: (score - mean) / std."""

    total: float = 0.0
    squares: float = 0.0
    count: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def std(self) -> float:
        """At least 1e-3, so that scores which are all alike divide by something; 1 before any was seen."""
        if not self.count:
            return 1.0
        variance = max(self.squares / self.count - self.mean * self.mean, 0.0)
        return max(math.sqrt(variance), 1e-3)

    def normalised(self, scores: Tensor) -> Tensor:
        return (scores - self.mean) / self.std


class Scoring:
    """Every reward of a stage, what is known of its scores, and how they become one."""

    def __init__(
        self, settings: RewardOptions, inputs: Inputs, chat: Chat, ranks: Ranks, precision: str, launch: Launch | None = None
    ) -> None:
        self.settings, self.ranks, self.sources = settings, ranks, settings.sources
        self.scorers: dict[str, Scorer] = {
            role: load_scorer(
                source, inputs.model(role) if source.model else None, chat, ranks.device, precision, launch
            )
            for role, source in self.sources.items()
        }
        self.start = {role: Scores() for role in self.sources}  # what the starting policy's answers score
        self.seen = {role: Scores() for role in self.sources}

    def check_length(self, tokens: int) -> None:
        """BadInput where so many of the policy's own tokens do not fit a reward model that reads them."""
        for scorer in self.scorers.values():
            if isinstance(scorer, RewardModel) and scorer.same_vocabulary:
                scorer.check_length(tokens)

    @property
    def critic_source(self) -> str | None:
        """The first reward whose model reads the policy's own tokens: what a value model may start from. (One that is only watched,
        its weight 0, would say 0 whatever it learned.)"""
        for role, scorer in self.scorers.items():
            if isinstance(scorer, RewardModel) and scorer.same_vocabulary and self.sources[role].weight:
                return role
        return None

    def as_reward(self, role: str) -> tuple[float, float]:
        """(scale, offset) that make of what the model behind a reward says what training is given: normalised by the
        starting answers' scores, weighted."""
        scorer, known = self.scorers[role], self.start[role]
        scale = self.sources[role].weight / known.std
        shift = scorer.shift if isinstance(scorer, RewardModel) else 0.0
        return scale, -(shift + known.mean) * scale

    def raw(self, rollout: Rollout, prompts: list[Record], texts: list[str]) -> Tensor:
        """Scores of every reward: (B, rewards) float32. `texts`: what the answers say, up to a role mark. TrainingFailed where one is no
        number: sorted by it, answers would come in any order."""
        return torch.stack(
            [finite(scorer.score_rollout(rollout, prompts, texts), f"reward {role}") for role, scorer in self.scorers.items()], dim=1
        )

    @property
    def cuts(self) -> bool:
        """Whether a reward scores by a part of it what is too long for its model."""
        return any(scorer.cuts for scorer in self.scorers.values())

    def cut(self, prompts: list[Record], texts: list[str]) -> list[bool]:
        """Which answers a reward scores by a part of them and of their prompts."""
        whole = [scorer.fits(prompts, texts) for scorer in self.scorers.values() if scorer.cuts]
        return [not all(scorers) for scorers in zip(*whole, strict=True)] if whole else [False] * len(texts)

    def cut_count(self, prompts: list[Record], texts: list[str]) -> dict[str, int]:
        """How many these are, where a reward may cut; else nothing."""
        return {"reward_cut_share": sum(self.cut(prompts, texts))} if self.cuts else {}

    def apart(self, raw: Tensor) -> dict[str, Any]:
        """The sum of each reward's own scores, where there are several: what is combined hides which of them pays."""
        return {f"score_{role}": raw[:, column].sum() for column, role in enumerate(self.sources) if len(self.sources) > 1}

    def begin(self, raw: Tensor) -> None:
        """Remember what the starting policy's answers score (this rank's part)."""
        if self.settings.reward_normalisation != "none":
            self._add(self.start, raw)
            self.seen = {role: Scores(**asdict(scores)) for role, scores in self.start.items()}

    def observe(self, raw: Tensor) -> None:
        """Running normalisation takes every rollout in."""
        if self.settings.reward_normalisation == "running":
            self._add(self.seen, raw)

    def combined(self, raw: Tensor, at_start: bool = False) -> Tensor:
        """(B, rewards) -> (B,): each normalised (by the starting answers' scores alone, if so asked) and weighted,
        then their sum or minimum."""
        known = self.start if at_start else self.seen
        parts = [
            self.sources[role].weight * known[role].normalised(raw[:, column])
            for column, role in enumerate(self.sources)
        ]
        together = torch.stack(parts, dim=1)
        return together.sum(1) if self.settings.combine == "sum" else together.amin(1)

    def final(self, raw: Tensor, finished: Tensor, texts: list[str]) -> Tensor:
        """What training is given: combined, clipped, then the penalties, which are felt at the clip's lower end too."""
        settings = self.settings
        scores = self.combined(raw).clamp(-settings.reward_clip, settings.reward_clip)
        scores = torch.where(finished, scores, scores - settings.missing_end_penalty)
        penalties = torch.tensor([pattern_penalty(text, settings.pattern_penalties) for text in texts])
        return scores - penalties.to(scores)

    def state(self) -> dict[str, Any]:
        return {
            name: {role: asdict(scores) for role, scores in known.items()}
            for name, known in (("start", self.start), ("seen", self.seen))
        }

    def load(self, state: dict[str, Any]) -> None:
        self.start, self.seen = (
            {role: Scores(**scores) for role, scores in state[name].items()} for name in ("start", "seen")
        )

    def _add(self, known: dict[str, Scores], raw: Tensor) -> None:
        columns = raw.double()
        sums: dict[str, Any] = {"count": len(raw)}
        for column, role in enumerate(known):
            sums[f"total {role}"] = columns[:, column].sum()
            sums[f"squares {role}"] = columns[:, column].square().sum()
        totals = self.ranks.sums(sums)
        for role, scores in known.items():
            scores.total += totals[f"total {role}"]
            scores.squares += totals[f"squares {role}"]
            scores.count += totals["count"]


def pattern_penalty(text: str, penalties: list[PatternPenalty]) -> float:
    """What the patterns in an answer cost."""
    return sum(
        rule.penalty * min(rule.most, len(re.findall(rule.pattern, text))) for rule in penalties
    )
