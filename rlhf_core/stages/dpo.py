"""Direct preference optimisation (Rafailov et al. 2023): pairs of answers, no rollout and no reward while it trains.

The reference's log-probabilities never change: they are those of the policy itself, computed once, before its first
step. Pairs come from rankings, or from the starting policy's own answers, best against worst by the rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import dealt, pad_right
from rlhf_core.dataset.chat_template import Chat, Tokens, load_chat
from rlhf_core.dataset.prompts import read_prompts
from rlhf_core.dataset.records import Record, read_records
from rlhf_core.engine import Ranks, split_on_loading
from rlhf_core.generation.rollout import cut_at_marks, generate, noise
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs, check_length
from rlhf_core.losses import dpo_loss
from rlhf_core.models.networks import PolicyModel, load_policy, selected_labels
from rlhf_core.rewards.scoring import Scoring
from rlhf_core.settings import DpoStage
from rlhf_core.stages.supervised import Supervised, ordered

_ROWS = 32


@dataclass
class Pair:
    """A better and a worse answer, and what the reference gives them (log-probability of the whole, nats)."""

    chosen: Tokens
    rejected: Tokens
    ref_chosen: float = 0.0
    ref_rejected: float = 0.0


class Dpo(Supervised):
    """The loss is the mean over pairs."""

    settings: DpoStage

    def __init__(self, settings: DpoStage, inputs: Inputs, ranks: Ranks) -> None:
        chat = load_chat(inputs.model("init"))
        # Who writes its own pairs needs the whole model for it.
        own = settings.pairs_from == "samples"
        with nullcontext() if own else split_on_loading(settings.launch, settings.precision):
            module = load_policy(inputs.model("init"), chat, settings.precision, settings.launch.attention)
        own_length = settings.max_prompt_length + settings.max_new_tokens
        check_length(settings, module.model, own_length if own else None)
        data = inputs.folder("data")
        if own:
            source = OwnAnswers(settings, inputs, chat, ranks, module.to(ranks.device).eval())
            self.train, self.dropped = source.pairs(inputs.examples("data"), settings.max_prompt_length)
            self.held_out, _ = source.pairs(data / "eval.jsonl", settings.max_prompt_length)
        else:
            self.train, self.dropped = read_pairs(inputs.examples("data"), chat, settings)
            self.held_out, _ = read_pairs(data / "eval.jsonl", chat, settings)
        if not self.train:
            raise BadInput(
                f"{data / 'train.jsonl'}: no two answers of a prompt differ (dropped: {self.dropped})"
            )
        lengths = [max(len(pair.chosen), len(pair.rejected)) for pair in self.train]
        super().__init__(settings, ranks, chat, module, ordered(settings, lengths))
        if not settings.reference_free:
            remember(self.engine, self.train + self.held_out, chat, ranks)

    def weigh(self, indices: list[int]) -> int:
        return len(indices)

    def tokens(self, indices: list[int]) -> int:
        return sum(len(self.train[i].chosen) + len(self.train[i].rejected) for i in indices)

    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        return self._loss([self.train[i] for i in indices])

    def figures(self, sums: dict[str, float]) -> dict[str, float]:
        return _means(sums, sums["weight"], "")

    def _loss(self, pairs: Sequence[Pair]) -> tuple[Tensor, dict[str, Any]]:
        """Summed loss and sums to report; both answers of all pairs in one pass."""
        settings = self.settings
        rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        found = answer_logprobs(self.engine, rows, self.chat, self.ranks.device)
        ref = [pair.ref_chosen for pair in pairs] + [pair.ref_rejected for pair in pairs]
        ratios = found[: len(rows)] - torch.tensor(ref, dtype=torch.float32, device=found.device)
        chosen, rejected = ratios[: len(pairs)], ratios[len(pairs) :]
        loss, right = dpo_loss(chosen, rejected, settings.beta, settings.loss, settings.label_smoothing)
        with torch.no_grad():
            sums = {
                "right": right,
                "chosen": settings.beta * chosen.sum(),
                "rejected": settings.beta * rejected.sum(),
            }
        return loss + 0.0 * found.sum(), sums

    def evaluate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        names = ("loss", "right", "chosen", "rejected")
        totals: dict[str, Any] = dict.fromkeys(names, 0.0)
        for pairs, counts in dealt(self.held_out, _ROWS, self.ranks.rank, self.ranks.world):
            with torch.no_grad():
                loss, sums = self._loss(pairs)
            if counts:
                for name, value in {"loss": loss, **sums}.items():
                    totals[name] += float(value)
        return _means(self.ranks.sums(totals), len(self.held_out), "eval_")

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        held_out = {
            name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")
        }
        return {
            **held_out,
            "train_loss": last["loss"],
            "train_accuracy": last["accuracy"],
            "pairs": len(self.train),
            "eval_pairs": len(self.held_out),
            **{f"dropped_{name}": count for name, count in self.dropped.items()},
        }


def _means(sums: dict[str, float], pairs: float, prefix: str) -> dict[str, float]:
    """`reward` is DPO's implicit one: beta times the log-ratio to the reference."""
    return {
        f"{prefix}loss": sums["loss"] / pairs,
        f"{prefix}accuracy": sums["right"] / pairs,
        f"{prefix}chosen_reward": sums["chosen"] / pairs,
        f"{prefix}rejected_reward": sums["rejected"] / pairs,
        f"{prefix}reward_margin": (sums["chosen"] - sums["rejected"]) / pairs,
    }


def answer_logprobs(policy: Any, rows: list[Tokens], chat: Chat, device: torch.device) -> Tensor:
    """Log-probability of each row's answer, its tokens summed: (B,) float32 in nats; one row of 0 where there is none."""
    batch = pad_right(rows, chat.pad_id).to(device)
    select, labels = selected_labels(batch.input_ids, batch.response_mask)
    logprobs, _ = policy(batch.input_ids, select, labels)
    owner = torch.nonzero(select)[:, 0]
    return torch.zeros(len(batch.lengths), device=device).index_add(0, owner, logprobs)


@torch.no_grad()
def remember(reference: Any, pairs: list[Pair], chat: Chat, ranks: Ranks) -> None:
    """Give every pair its reference log-probabilities; each rank computes its share, in as many passes as the others (under
    ZeRO-3 they wait for each other). `reference` is the policy before its first step, adapters and all."""
    own = pairs[ranks.rank :: ranks.world]
    found: list[tuple[float, float]] = []
    for start in range(0, -(-len(pairs) // ranks.world), _ROWS):
        part = own[start : start + _ROWS]
        rows = [pair.chosen for pair in part] + [pair.rejected for pair in part]
        values = answer_logprobs(reference, rows, chat, ranks.device).tolist()
        found += list(zip(values[: len(part)], values[len(part) :], strict=True))
    for rank, values_of_rank in enumerate(ranks.gather(found)):
        for pair, (chosen, rejected) in zip(pairs[rank :: ranks.world], values_of_rank, strict=True):
            pair.ref_chosen, pair.ref_rejected = chosen, rejected


def read_pairs(path: Path, chat: Chat, settings: DpoStage) -> tuple[list[Pair], dict[str, int]]:
    """Pairs of the rankings in a JSON-lines file; prompts that leave no room for an answer or have one answer or none, and pairs
    that are equal after cutting, rated alike or rated against their order, are dropped and counted."""
    dropped = {"too_long_prompts": 0, "single_answer_prompts": 0, "equal_pairs": 0, "contradicted_pairs": 0}
    pairs: list[Pair] = []
    records = read_records(path) if path.exists() else []
    whole = iter(
        chat.conversations([record.answered(text) for record in records for text in record.responses])
    )
    for record in records:
        answers = [next(whole).cut(settings.max_length) for _ in record.responses]
        if not all(any(tokens.mask) for tokens in answers):
            dropped["too_long_prompts"] += 1
            continue
        if len(answers) < 2:
            dropped["single_answer_prompts"] += 1
            continue
        ratings = record.ratings
        for i, j in _chosen(len(answers), settings.pairs):
            if ratings[i] < ratings[j]:
                dropped["contradicted_pairs"] += 1
            elif ratings[i] == ratings[j] or answers[i].ids == answers[j].ids:
                dropped["equal_pairs"] += 1
            else:
                pairs.append(Pair(answers[i], answers[j]))
    return pairs, dropped


def _chosen(answers: int, pairs: str) -> list[tuple[int, int]]:
    """Places of the better and the worse answers of a ranking."""
    every = list(combinations(range(answers), 2))
    return every if pairs == "all" else [(0, answers - 1)]


@dataclass(frozen=True)
class _Written:
    """A prompt's K answers.

    answers   token ids, end token included
    texts     what they say, up to a role mark
    finished  (K,) bool
    raw       (K, rewards) float32
    whole     (K,) whether every reward read all of it
    """

    answers: list[list[int]]
    texts: list[str]
    finished: Tensor
    raw: Tensor
    whole: list[bool]


class OwnAnswers:
    """Pairs from the starting policy: of `samples` answers a prompt the best and the worst."""

    def __init__(
        self, settings: DpoStage, inputs: Inputs, chat: Chat, ranks: Ranks, policy: PolicyModel
    ) -> None:
        self.settings, self.chat, self.ranks, self.policy = settings, chat, ranks, policy
        self.scoring = Scoring(settings, inputs, chat, ranks, settings.precision, settings.launch)
        self.scoring.check_length(settings.max_prompt_length + settings.max_new_tokens)
        self._normalised = False

    def pairs(self, path: Path, longest: int) -> tuple[list[Pair], dict[str, int]]:
        """Pairs in the prompts' order, on all ranks the same; prompts whose answers all score alike have none. Answers too long for a
        reward's classifier are left out. The answers to the first file are those by whose scores rewards are normalised."""
        prompts, too_long = read_prompts(path, self.chat, longest)
        written: dict[int, _Written] = {}
        raw = [torch.zeros(0, len(self.scoring.sources), device=self.ranks.device)]
        rows = max(1, _ROWS // self.settings.samples)
        for places, counts in dealt(range(len(prompts)), rows, self.ranks.rank, self.ranks.world):
            part = self._write(prompts, places)
            raw += [one.raw[one.whole] for one in part.values()] if counts else []  # what is answered again is answered alike
            written |= part
        if not self._normalised:
            self.scoring.begin(torch.cat(raw))
            self._normalised = True
        own = {place: self._scored(one) for place, one in written.items()}
        everyone = {place: known for part in self.ranks.gather(own) for place, known in part.items()}
        pairs, alike, alone, cut = [], 0, 0, 0
        for place, (_, ids) in enumerate(prompts):
            ranked = sorted(everyone[place], key=lambda answer: -answer[1])
            cut += self.settings.samples - len(ranked)
            if len(ranked) < 2:
                alone += 1
                continue
            if ranked[0][1] == ranked[-1][1]:
                alike += 1
                continue
            best, worst = (
                Tokens(ids + answer, [False] * len(ids) + [True] * len(answer))
                for answer in (ranked[0][0], ranked[-1][0])
            )
            pairs.append(Pair(best, worst))
        return pairs, {"too_long_prompts": too_long, "too_long_answers": cut, "single_answer_prompts": alone, "equal_pairs": alike}

    def _write(self, prompts: list[tuple[Record, list[int]]], places: Sequence[int]) -> dict[int, _Written]:
        """The answers to the prompts at `places`."""
        settings, k = self.settings, self.settings.samples
        rows = [place for place in places for _ in range(k)]
        uniforms = torch.cat(
            [noise(settings.seed, place + 1, k, settings.max_new_tokens) for place in places]
        )
        rollout = generate(
            self.policy.model, self.chat, [prompts[place][1] for place in rows],
            settings.max_new_tokens, settings.temperature, uniforms,
        )  # fmt: skip
        rollout = cut_at_marks(rollout, self.chat, settings.cut_marks)
        texts = [self.chat.decode(ids, settings.cut_marks) for ids in rollout.responses()]
        records = [prompts[place][0] for place in rows]
        raw = self.scoring.raw(rollout, records, texts)
        whole = [not cut for cut in self.scoring.cut(records, texts)]
        answers, finished = rollout.responses(), rollout.finished
        parts = [slice(i * k, (i + 1) * k) for i in range(len(places))]
        return {place: _Written(answers[own], texts[own], finished[own], raw[own], whole[own]) for place, own in zip(places, parts, strict=True)}

    def _scored(self, written: _Written) -> list[tuple[list[int], float]]:
        """(token ids, score) of each answer that was read whole."""
        scores = self.scoring.final(written.raw, written.finished, written.texts).tolist()
        return [one for one, whole in zip(zip(written.answers, scores, strict=True), written.whole, strict=True) if whole]
