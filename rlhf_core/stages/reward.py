"""The reward model: K ranked answers of a prompt, all scored in one pass, all C(K,2) pairs in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_core.dataset.batches import dealt, pad_right
from rlhf_core.dataset.chat_template import Chat, Tokens, load_chat
from rlhf_core.dataset.records import read_records
from rlhf_core.engine import Ranks, split_on_loading
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs, check_length
from rlhf_core.losses import centring_loss, ranking_loss
from rlhf_core.models.networks import load_scalar
from rlhf_core.rewards.sources import pooled
from rlhf_core.settings import RewardStage
from rlhf_core.stages.supervised import Supervised, ordered

_EVAL_PROMPTS = 16


@dataclass(frozen=True)
class Ranked:
    """A prompt's answers, best first, as whole sequences, which pairs (i better than j) count, and their `Record.ratings`."""

    answers: list[Tokens]
    pairs: list[list[bool]]
    ratings: list[float]


@dataclass
class Counts:
    prompts: int = 0
    pairs: int = 0
    equal_pairs: int = 0
    contradicted_pairs: int = 0
    too_long_prompts: int = 0
    single_answer_prompts: int = 0


class Reward(Supervised):
    """The loss is the mean over prompts of the mean over their pairs, plus centring where it is asked for."""

    settings: RewardStage

    def __init__(self, settings: RewardStage, inputs: Inputs, ranks: Ranks) -> None:
        chat = load_chat(inputs.model("init"))
        with split_on_loading(settings.launch, settings.precision):
            module = load_scalar(
                inputs.model("init"), chat, settings.precision, settings.seed, settings.launch.attention
            )
        check_length(settings, module.model)
        module.model.config.score_pooling = settings.pooling
        module.model.config.score_shift = 0.0  # of the reward model that this one may begin with
        data = inputs.folder("data")
        self.train, self.counts = read_rankings(inputs.examples("data"), chat, settings)
        self.held_out, self.eval_counts = read_rankings(data / "eval.jsonl", chat, settings)
        if not self.train:
            raise BadInput(f"{data / 'train.jsonl'}: no prompt has two different answers: {self.counts}")
        lengths = [max(map(len, prompt.answers)) for prompt in self.train]
        super().__init__(settings, ranks, chat, module, ordered(settings, lengths))

    def weigh(self, indices: list[int]) -> int:
        return len(indices)

    def tokens(self, indices: list[int]) -> int:
        return sum(len(answer) for i in indices for answer in self.train[i].answers)

    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        prompts = [self.train[i] for i in indices]
        scores, pairs = self._score(prompts)
        loss, right, counted = ranking_loss(scores, pairs, self._margins(prompts, pairs))
        if self.settings.center_coef:
            loss = loss + self.settings.center_coef * centring_loss(scores, pairs)
        return loss, {"right": right, "pairs": counted}

    def figures(self, sums: dict[str, float]) -> dict[str, float]:
        return {"loss": sums["loss"] / sums["weight"], "accuracy": sums["right"] / max(sums["pairs"], 1)}

    def _score(self, prompts: Sequence[Ranked]) -> tuple[Tensor, Tensor]:
        """Scores (B, K) and pairs that count (B, K, K); places without an answer score 0 and are in no pair."""
        widest = max([1, *(len(prompt.answers) for prompt in prompts)])
        flat = [tokens for prompt in prompts for tokens in prompt.answers]
        batch = pad_right(flat, self.chat.pad_id).to(self.ranks.device)
        found = pooled(self.engine, batch, self.settings.pooling)
        present = torch.zeros(len(prompts), widest, dtype=torch.bool, device=found.device)
        pairs = torch.zeros(len(prompts), widest, widest, dtype=torch.bool, device=found.device)
        for row, prompt in enumerate(prompts):
            k = len(prompt.answers)
            present[row, :k] = True
            pairs[row, :k, :k] = torch.tensor(prompt.pairs, dtype=torch.bool, device=found.device)
        scores = torch.zeros(present.shape, device=found.device)
        if flat:
            return scores.masked_scatter(present, found), pairs
        return scores + 0.0 * found.sum(), pairs

    def _margins(self, prompts: Sequence[Ranked], pairs: Tensor) -> Tensor | None:
        """What each pair's scores should differ by: (B, K, K)."""
        if not self.settings.margin:
            return None
        ratings = torch.zeros(pairs.shape[:2], device=pairs.device)
        for row, prompt in enumerate(prompts):
            ratings[row, : len(prompt.ratings)] = torch.tensor(prompt.ratings)
        return self.settings.margin * (ratings.unsqueeze(2) - ratings.unsqueeze(1))

    def save(self, folder: Path) -> None:
        """With the shift that makes the training rankings' best answers average 0, for whoever reads the scores."""
        if self.settings.normalise:
            self.engine.module.model.config.score_shift = self._mean_of_best()
        super().save(folder)

    def _mean_of_best(self) -> float:
        best = [Ranked(prompt.answers[:1], [[False]], [0.0]) for prompt in self.train]
        total = 0.0
        for prompts, counts in dealt(best, _EVAL_PROMPTS, self.ranks.rank, self.ranks.world):
            with torch.no_grad():
                scores, _ = self._score(prompts)
            total += float(scores.double().sum()) if counts else 0.0
        return self.ranks.sums({"total": total})["total"] / len(best)

    def evaluate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        sums = dict.fromkeys(("loss", "right", "pairs", "prompts", "score", "square", "answers"), 0.0)
        for prompts, counts in dealt(self.held_out, _EVAL_PROMPTS, self.ranks.rank, self.ranks.world):
            with torch.no_grad():
                scores, pairs = self._score(prompts)
                loss, right, counted = ranking_loss(scores, pairs)
            if counts:
                sums["loss"] += float(loss)
                sums["right"] += float(right)
                sums["pairs"] += float(counted)
                sums["prompts"] += len(prompts)
                sums["score"] += float(scores.double().sum())
                sums["square"] += float(scores.double().square().sum())
                sums["answers"] += sum(len(prompt.answers) for prompt in prompts)
        totals = self.ranks.sums(sums)
        mean = totals["score"] / totals["answers"]
        return {
            "eval_loss": totals["loss"] / totals["prompts"],
            "eval_accuracy": totals["right"] / max(totals["pairs"], 1),
            "eval_score_mean": mean,
            "eval_score_std": max(totals["square"] / totals["answers"] - mean**2, 0.0) ** 0.5,
        }

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        held_out = {
            name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")
        }
        return {
            **held_out,
            "train_loss": last["loss"],
            "train_accuracy": last["accuracy"],
            "pairs": self.eval_counts.pairs,
            "train_pairs": self.counts.pairs,
            "train_prompts": self.counts.prompts,
            "dropped_equal_pairs": self.counts.equal_pairs + self.eval_counts.equal_pairs,
            "dropped_contradicted_pairs": self.counts.contradicted_pairs + self.eval_counts.contradicted_pairs,
            "dropped_too_long_prompts": self.counts.too_long_prompts + self.eval_counts.too_long_prompts,
            "dropped_single_answer_prompts": self.counts.single_answer_prompts
            + self.eval_counts.single_answer_prompts,
        }


def read_rankings(path: Path, chat: Chat, settings: RewardStage) -> tuple[list[Ranked], Counts]:
    """Preferences of a JSON-lines file. Pairs whose answers are equal after cutting would add ln 2 forever: they are
    dropped and counted, and so are pairs that are rated alike, those whose ratings contradict their order, and prompts that leave
    no room for an answer or have no pair left."""
    counts, ranked = Counts(), []
    records = read_records(path) if path.exists() else []
    whole = iter(
        chat.conversations([record.answered(text) for record in records for text in record.responses])
    )
    for record in records:
        answers = [next(whole).cut(settings.max_length) for _ in record.responses]
        if not all(any(tokens.mask) for tokens in answers):
            counts.too_long_prompts += 1
            continue
        chosen = _choose(len(answers), settings.max_responses)
        ratings = [record.ratings[i] for i in chosen]
        answers = [answers[i] for i in chosen]
        k = len(answers)
        pairs = [[i < j and ratings[i] > ratings[j] and answers[i].ids != answers[j].ids for j in range(k)] for i in range(k)]
        contradicted = sum(better < worse for better, worse in combinations(ratings, 2))
        counts.contradicted_pairs += contradicted
        counts.equal_pairs += k * (k - 1) // 2 - sum(map(sum, pairs)) - contradicted
        if not any(map(any, pairs)):
            counts.single_answer_prompts += 1
            continue
        counts.prompts += 1
        counts.pairs += sum(map(sum, pairs))
        ranked.append(Ranked(answers, pairs, ratings))
    return ranked, counts


def _choose(answers: int, most: int) -> list[int]:
    """Places of at most so many answers, evenly over the ranks, the best and the worst among them."""
    if answers <= most:
        return list(range(answers))
    return [int(place) for place in np.linspace(0, answers - 1, most).round()]
