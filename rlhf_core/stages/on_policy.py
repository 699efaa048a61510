"""What every stage shares that learns from answers of its own: prompts, rollouts, rewards, held-out figures, saving."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_core.dataset.batches import Order, TokenBatch
from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.prompts import read_prompts
from rlhf_core.dataset.records import Record
from rlhf_core.engine import Engine, Ranks, split_frozen
from rlhf_core.generation.rollout import Rollout, cut_at_marks, noise
from rlhf_core.generation.sampler import OwnSampler, Sampler
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs, check_length
from rlhf_core.losses import kl_estimate
from rlhf_core.models.lora import WithoutAdapters, is_frozen_below
from rlhf_core.models.networks import DTYPES, PolicyModel, load_policy, selected_labels
from rlhf_core.rewards.scoring import Scoring
from rlhf_core.settings import OnPolicyStage
from rlhf_core.stages.answers import Answers, answer_figures, sample_lines

# (input_ids, select, labels, temperature) -> log-probabilities, entropies: as `PolicyModel.forward` with labels
Likelihood = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


class OnPolicy(ABC):
    """Subclasses: `step`, and what their settings add."""

    def __init__(self, settings: OnPolicyStage, inputs: Inputs, ranks: Ranks) -> None:
        self.settings, self.ranks, self.steps = settings, ranks, settings.steps
        self.samples_a_prompt = getattr(settings, "samples", 1)
        self._check_sizes()
        self.chat = load_chat(inputs.model("init"))
        policy = self._read_policy(inputs)
        longest = settings.max_prompt_length + settings.max_new_tokens
        check_length(settings, policy.model, longest)
        lora, zero = settings.optimizer.lora, settings.launch.zero_stage
        self.reference = self._make_reference(policy, inputs)
        self.scoring = Scoring(settings, inputs, self.chat, ranks, settings.precision, settings.launch)
        self.scoring.check_length(longest)
        data = inputs.folder("data")
        self.prompts, self.dropped = read_prompts(inputs.examples("data"), self.chat, settings.max_prompt_length)
        held_out, _ = read_prompts(data / "eval.jsonl", self.chat, settings.max_prompt_length)
        self.eval_prompts = held_out[: settings.eval_prompts]
        if not self.prompts:
            raise BadInput(
                f"{data / 'train.jsonl'}: no prompt of at most {settings.max_prompt_length} tokens ({self.dropped} are longer)"
            )
        self.order = Order(len(self.prompts), settings.batch_size // self.samples_a_prompt, settings.seed)
        policy = self.trained(policy)
        # Under ZeRO-3 the policy's weights lie in pieces, and adapters slow every token: a whole, merged copy writes.
        whole = settings.vllm is None or getattr(settings, "ema_decay", None) is not None
        self.writer = self.frozen(copy.deepcopy(policy)) if whole and (zero == 3 or lora) else None
        self.policy = Engine(
            policy, settings.optimizer, settings.launch, settings.precision, self.accumulation, ranks
        )
        self.sampler = self._make_sampler(inputs)
        self._changed = True  # whether the weights have, since the sampler was told of them
        self.before: dict[str, float] = {}
        self._last: Answers | None = None

    # What subclasses say

    updates_a_pass = 1  # minibatches

    def trained(self, policy: Any) -> Any:
        """The module that is trained, made from the loaded policy."""
        return policy

    @abstractmethod
    def step(self, step: int, rate_share: float) -> dict[str, float]: ...

    @property
    def likelihood(self) -> Likelihood:
        """The trained policy's."""
        return self.policy

    # What the loop asks for

    @property
    def engines(self) -> dict[str, Any]:
        return {"policy": self.policy}

    def begin(self, state: dict[str, Any]) -> None:
        if state:
            self.scoring.load(state["scoring"])
            self.before = state["before"]
            return
        if self.settings.reward_normalisation != "none":
            records, rollout, _ = self._write(1, 2**31, self.settings.max_new_tokens)
            self.scoring.begin(self.scoring.raw(rollout, records, self.texts(rollout)))
        self.before = self.evaluate()

    def state(self) -> dict[str, Any]:
        return {"scoring": self.scoring.state(), "before": self.before}

    def evaluate(self) -> dict[str, float]:
        """Answers to the held-out prompts, sampled with the same random numbers each time, scored by the yardstick of
        the start, without clip and penalties."""
        if not self.eval_prompts:
            return {}
        settings, world = self.settings, self.ranks.world
        # as many on every rank; the repeats are not counted
        count = -(-len(self.eval_prompts) // world) * world
        uniforms = noise(settings.seed, 0, count, settings.max_new_tokens)[self.ranks.rank :: world]
        places = list(range(self.ranks.rank, count, world))
        prompts = [self.eval_prompts[place % len(self.eval_prompts)] for place in places]
        real = torch.tensor([place < len(self.eval_prompts) for place in places], device=self.ranks.device)
        rollout = self.answer(prompts, uniforms, settings.max_new_tokens)
        records, texts = [record for record, _ in prompts], self.texts(rollout)
        raw = self.scoring.raw(rollout, records, texts)
        own = int(real.sum())
        apart = self.scoring.apart(raw[real]) | self.scoring.cut_count(records[:own], texts[:own])
        sums = apart | {
            "count": real.sum(),
            "reward": self.scoring.combined(raw, at_start=True)[real].sum(),
            "raw": raw.sum(1)[real].sum(),
            "kl": self.kl(rollout).sum(1)[real].sum(),
            "finished": rollout.finished[real].sum(),
            "length": rollout.lengths[real].sum(),
        }
        totals = self.ranks.sums(sums)
        count = int(totals["count"])
        return {
            "eval_reward": totals["reward"] / count,
            "eval_score": totals["raw"] / count,
            "eval_kl": totals["kl"] / count,
            "eval_finished_share": totals["finished"] / count,
            "eval_length": totals["length"] / count,
            **{f"eval_{name}": totals[name] / count for name in apart},
        }

    def samples(self) -> list[dict[str, Any]]:
        return sample_lines(self._last) if self._last is not None else []

    def save(self, folder: Path) -> None:
        self.save_policy(folder)

    def save_policy(self, folder: Path) -> None:
        """The policy as it is now."""
        state = self.policy.full_state()
        if self.ranks.is_main:
            self.policy.module.save(folder, self.chat, state)

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        summary: dict[str, Any] = {"prompts": len(self.prompts), "dropped_too_long_prompts": self.dropped}
        for name, value in self.before.items():
            short = name.removeprefix("eval_")
            summary |= {f"{short}_before": value, f"{short}_after": last.get(name, value)}
        summary |= {
            "kl": last.get("eval_kl", last["kl"]),
            "finished_share": last.get("eval_finished_share", last["finished_share"]),
        }
        kept = ("reward", "kl", "entropy", "length", "distinct_2", "reward_cut_share")
        summary |= {f"train_{name}": last[name] for name in kept if name in last}
        first = next(iter(self.scoring.start.values()))
        return {**summary, "reward_mean": first.mean, "reward_std": first.std}

    # A rollout

    def roll(self, step: int) -> Answers:
        """The answers of iteration `step`, scored."""
        settings = self.settings
        limit = settings.max_new_tokens
        if settings.min_new_tokens and settings.min_new_tokens < limit:
            drawn = np.random.default_rng([settings.seed, step, 0x1E7]).integers(settings.min_new_tokens, limit + 1)
            limit = int(drawn)
        records, rollout, places = self._write(step, step, limit)
        self._changed = True  # by the update that follows
        texts = self.texts(rollout)
        raw = self.scoring.raw(rollout, records, texts)
        self.scoring.observe(raw)
        scores = self.scoring.final(raw, rollout.finished, texts)
        self._last = Answers(records, places, rollout, texts, raw, scores)
        return self._last

    def _write(self, step: int, seed_step: int, limit: int) -> tuple[list[Record], Rollout, list[int]]:
        """This rank's answers to the prompts of a step, every prompt `samples_a_prompt` times."""
        settings, k = self.settings, self.samples_a_prompt
        batch = self.order.batch(step)
        own = self.own(list(range(len(batch))))
        rows = [place * k + copy_ for place in own for copy_ in range(k)]
        uniforms = noise(settings.seed, seed_step, settings.batch_size, settings.max_new_tokens)[rows, :limit]
        places = [batch[row // k] for row in rows]
        prompts = [self.prompts[place] for place in places]
        return [record for record, _ in prompts], self.answer(prompts, uniforms, limit), places

    def answer(self, prompts: list[tuple[Record, list[int]]], uniforms: Tensor, limit: int) -> Rollout:
        if self._changed:
            self.sampler.refresh()
            self._changed = False
        rollout = self.sampler.answers([ids for _, ids in prompts], limit, uniforms)
        rollout = cut_at_marks(rollout, self.chat, self.settings.cut_marks)
        if self.settings.vllm is None:
            return rollout
        # A server's numbers are those of other kernels in another precision, often: the ratio would not begin at 1.
        with torch.no_grad():
            own = self.logprobs(self.likelihood, self.sequences(rollout), rollout.response_mask)
        return replace(rollout, logprobs=own)

    def texts(self, rollout: Rollout) -> list[str]:
        return [self.chat.decode(ids, self.settings.cut_marks) for ids in rollout.responses()]

    def figures(self, answers: Answers, kl: Tensor | None = None) -> dict[str, float]:
        """`answer_figures`; kl (B, T) where it is known."""
        kl = self.kl(answers.rollout) if kl is None else kl
        return answer_figures(answers, kl, self.scoring, self.settings.watched_patterns, self.ranks)

    # Passes over the models, in micro-batches

    @torch.no_grad()
    def kl(self, rollout: Rollout) -> Tensor:
        """Log-ratio of policy to reference at each sampled token: (B, T), 0 outside the mask."""
        ref = self.logprobs(self.reference, self.sequences(rollout), rollout.response_mask)
        return torch.where(rollout.response_mask, kl_estimate(rollout.logprobs, ref), 0.0)

    def sequences(self, rollout: Rollout) -> TokenBatch:
        return rollout.sequences(self.chat.pad_id).to(self.ranks.device)

    def logprobs(self, likelihood: Likelihood, sequences: TokenBatch, mask: Tensor) -> Tensor:
        """Log-probabilities of the response tokens at the sampling temperature: (B, T)."""
        found = []
        for part in self.parts(len(mask)):
            rows = sequences.rows(part)
            select, labels = selected_labels(rows.input_ids, rows.response_mask)
            found.append(likelihood(rows.input_ids, select, labels, self.settings.temperature)[0])
        return spread(torch.cat(found), mask)

    def parts(self, rows: int) -> list[slice]:
        size = min(self.micro, rows)
        return [slice(i, min(i + size, rows)) for i in range(0, rows, size)]

    # Preparation

    def _read_policy(self, inputs: Inputs) -> PolicyModel:
        return load_policy(inputs.model("init"), self.chat, self.settings.precision, self.settings.launch.attention)

    def _make_reference(self, policy: PolicyModel, inputs: Inputs) -> Any:
        """The policy as it is at the start. Frozen weights under adapters are that themselves; under ZeRO-3 it is split."""
        settings = self.settings
        if settings.launch.zero_stage == 3:
            return split_frozen(lambda: self._read_policy(inputs), settings.launch, settings.precision, self.ranks.device)
        return WithoutAdapters(policy) if is_frozen_below(settings.optimizer.lora) else self.frozen(copy.deepcopy(policy))

    def _make_sampler(self, inputs: Inputs) -> Sampler:
        settings = self.settings
        if settings.vllm is None:
            return OwnSampler(self.policy, self.writer, self.chat, settings.temperature)
        from rlhf_core.generation.vllm_rollout import VllmRollout

        start = inputs.model("init")
        return VllmRollout(settings.vllm, start, self.save_policy, self.chat, settings.temperature, self.ranks)

    def _check_sizes(self) -> None:
        settings, world, k = self.settings, self.ranks.world, self.samples_a_prompt
        unit = world * self.updates_a_pass * k
        if settings.batch_size % unit:
            factors = [f"ranks {world}", f"minibatches {self.updates_a_pass}", f"samples {k}"]
            raise BadInput(
                f"stage {settings.name}: batch_size {settings.batch_size} must be a multiple of {unit} "
                f"({' x '.join(factors)}), so that every rank makes the same number of updates"
            )
        rows = settings.batch_size // (world * self.updates_a_pass)
        self.micro = min(settings.launch.micro_batch_size or rows, rows)
        self.accumulation = -(-rows // self.micro)

    def frozen(self, module: Any) -> Any:
        return module.to(self.ranks.device, DTYPES[self.settings.precision]).eval().requires_grad_(False)

    def own(self, items: list[int]) -> list[int]:
        """This rank's part of a batch: of every minibatch, its share. So minibatches hold the same rows on any
        number of ranks."""
        size = len(items) // self.updates_a_pass
        parts = [items[i * size : (i + 1) * size] for i in range(self.updates_a_pass)]
        return [item for part in parts for item in part[self.ranks.rank :: self.ranks.world]]


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Values (N,) of the tokens that count, row by row, into (B, T) float32 with 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_scatter(mask, values.float())
