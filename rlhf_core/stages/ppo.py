"""PPO with four models: policy, reference, value and reward (Ouyang et al. 2022; Schulman et al. 2017).

One iteration: the policy answers a batch of prompts; the reward model scores the answers; every token is charged
kl_coef times its log-ratio to the reference; GAE over the value model's estimates gives advantages; then clipped
updates of policy and value in ppo_epochs passes over minibatches.

With a single update (one epoch, one minibatch) nothing is computed twice: the sampling log-probabilities serve the
KL, and the update's own pass gives the old log-probabilities and values.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_core.batches import Order, TokenBatch, micro_slices
from rlhf_core.chat import load_chat
from rlhf_core.engine import Engine, Ranks
from rlhf_core.errors import BadInput
from rlhf_core.inputs import Inputs, check_length
from rlhf_core.losses import (
    entropy,
    gae,
    kl_estimate,
    policy_loss,
    shaped_rewards,
    token_logprobs,
    value_loss,
    whiten,
)
from rlhf_core.models import load_policy, load_scalar, selected_labels
from rlhf_core.records import Record, read_records
from rlhf_core.rewards import Normalisation, RewardModel, final_scores, normalisation
from rlhf_core.rollout import Rollout, generate, noise
from rlhf_core.settings import PpoStage
from rlhf_core.text_measures import distinct_n

_SAMPLES = 2
_NOISE = 1e-5  # nats; a policy that is still its reference has estimates of either sign below this


@dataclass(frozen=True)
class Experience:
    """One rank's rollout, ready for updates. (B, T) tensors are over response tokens, 0 outside the mask.

    sequences      prompts and answers, right-padded
    mask           (B, T) bool
    old_logprobs   (B, T) of the policy that wrote the tokens
    old_values     (B, T) value of the state before each token
    advantages     (B, T), whitened over all ranks
    returns        (B, T)
    """

    sequences: TokenBatch
    mask: Tensor
    old_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor


class Ppo:
    def __init__(self, settings: PpoStage, inputs: Inputs, ranks: Ranks) -> None:
        self.settings, self.ranks, self.steps = settings, ranks, settings.steps
        self._check_sizes()
        self.chat = load_chat(inputs.model("init"))
        policy = load_policy(inputs.model("init"), self.chat, "fp32")
        check_length(settings, policy.model, settings.max_prompt_length + settings.max_new_tokens)
        self.reference = self._frozen(copy.deepcopy(policy))
        reward_source = inputs.model("reward_model")
        reward_chat = load_chat(reward_source)
        self.reward_model = RewardModel(
            self._frozen(load_scalar(reward_source, reward_chat, "fp32", settings.seed)),
            reward_chat,
            self.chat,
            ranks.device,
        )
        value_source = inputs.model("value_init") if inputs.has("value_init") else reward_source
        if not self.reward_model.same_vocabulary and not inputs.has("value_init"):
            value_source = inputs.model("init")  # a value model reads the policy's tokens
        value = load_scalar(value_source, self.chat, "fp32", settings.seed)
        data = inputs.folder("data")
        self.prompts, self.dropped = self._read(data / "train.jsonl")
        self.eval_prompts = self._read(data / "eval.jsonl")[0][: settings.eval_prompts]
        if not self.prompts:
            raise BadInput(
                f"{data / 'train.jsonl'}: no prompt of at most {settings.max_prompt_length} tokens"
            )
        self.order = Order(len(self.prompts), settings.batch_size, settings.seed)
        self.policy = Engine(
            policy, settings.optimizer, settings.launch, settings.precision, self.accumulation, ranks
        )
        value_optimizer = settings.optimizer.model_copy(
            update={"learning_rate": settings.value_learning_rate}
        )
        self.value = Engine(
            value, value_optimizer, settings.launch, settings.precision, self.accumulation, ranks
        )
        # Under ZeRO-3 the policy's weights lie in pieces: answers are written by a whole copy.
        self.writer = self._frozen(copy.deepcopy(self.reference)) if settings.launch.zero_stage == 3 else None
        self.normal = Normalisation()
        self.before: dict[str, float] = {}
        self._last: tuple[list[Record], Rollout, Tensor] | None = None

    # What the loop asks for

    @property
    def engines(self) -> dict[str, Engine]:
        return {"policy": self.policy, "value": self.value}

    def begin(self, state: dict[str, Any]) -> None:
        if state:
            self.normal = Normalisation(**state["normalisation"])
            self.before = state["before"]
            return
        if self.settings.reward_normalisation == "references":
            self.normal = self._reference_scores()
        self.before = self.evaluate()

    def state(self) -> dict[str, Any]:
        return {"normalisation": {"mean": self.normal.mean, "std": self.normal.std}, "before": self.before}

    def step(self, step: int, rate_share: float) -> dict[str, float]:
        settings = self.settings
        prompts = [self.prompts[i] for i in self._own(self.order.batch(step))]
        uniforms = noise(settings.seed, step, settings.batch_size, settings.max_new_tokens)
        rollout = self._answer(prompts, uniforms[self._own(list(range(settings.batch_size)))])
        raw = self.reward_model.score_rollout(rollout, [record for record, _ in prompts])
        scores = final_scores(
            raw, rollout.finished, self.normal, settings.reward_clip, settings.missing_end_penalty
        )
        self._last = ([record for record, _ in prompts], rollout, scores)
        experience, sums = self._experience(rollout, scores)
        updates = settings.ppo_epochs * settings.minibatches
        norms = {"grad_norm": 0.0, "value_grad_norm": 0.0}
        for update in range(updates):
            more, norms = self._update(experience, update % settings.minibatches, updates, rate_share)
            for name, value in more.items():
                sums[name] = sums.get(name, 0.0) + value
        return (
            self._figures(self.ranks.sums(sums), rollout, updates)
            | norms
            | {"learning_rate": settings.optimizer.learning_rate * rate_share}
        )

    def evaluate(self) -> dict[str, float]:
        """Answers to the held-out prompts, sampled with the same random numbers each time."""
        if not self.eval_prompts:
            return {}
        settings, world = self.settings, self.ranks.world
        count = (
            -(-len(self.eval_prompts) // world) * world
        )  # as many on every rank; the repeats are not counted
        uniforms = noise(settings.seed, 0, count, settings.max_new_tokens)[self.ranks.rank :: world]
        places = list(range(self.ranks.rank, count, world))
        prompts = [self.eval_prompts[place % len(self.eval_prompts)] for place in places]
        real = torch.tensor([place < len(self.eval_prompts) for place in places], device=self.ranks.device)
        rollout = self._answer(prompts, uniforms)
        raw = self.reward_model.score_rollout(rollout, [record for record, _ in prompts])
        normal = (raw - self.normal.mean) / self.normal.std
        kl = (self._kl(rollout).sum(1))[real]
        sums = {
            "count": real.sum(),
            "reward": normal[real].sum(),
            "raw": raw[real].sum(),
            "kl": kl.sum(),
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
        }

    def samples(self) -> list[dict[str, Any]]:
        if self._last is None:
            return []
        records, rollout, scores = self._last
        answers, values = rollout.responses(), scores.tolist()
        return [
            {
                "id": records[i].id,
                "prompt": records[i].turns[-1].text,
                "response": self.chat.decode(answers[i]),
                "reward": round(values[i], 4),
            }
            for i in range(min(_SAMPLES, len(records)))
        ]

    def save(self, folder: Path) -> None:
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
        train = {f"train_{name}": last[name] for name in ("reward", "kl", "entropy", "length", "distinct_2")}
        return {**summary, **train, "reward_mean": self.normal.mean, "reward_std": self.normal.std}

    # An iteration

    def _answer(self, prompts: list[tuple[Record, list[int]]], uniforms: Tensor) -> Rollout:
        if self.writer is not None:
            self.policy.copy_to(self.writer)
        writer = (self.writer or self.policy.module).model
        return generate(
            writer,
            self.chat,
            [ids for _, ids in prompts],
            self.settings.max_new_tokens,
            self.settings.temperature,
            uniforms,
        )

    def _experience(self, rollout: Rollout, scores: Tensor) -> tuple[Experience, dict[str, Any]]:
        settings = self.settings
        sequences = rollout.sequences(self.chat.pad_id).to(self.ranks.device)
        mask = rollout.response_mask
        with torch.no_grad():
            ref = self._logprobs(self.reference, sequences, mask)
            old = rollout.logprobs if self._single else self._logprobs(self.policy, sequences, mask)
            values = self._values(sequences, mask)
        kl = torch.where(mask, kl_estimate(old, ref), 0.0)
        rewards = shaped_rewards(scores, kl, mask, settings.kl_coef)
        advantages, returns = gae(rewards, values, mask, settings.gamma, settings.gae_lambda)
        if settings.whiten_advantages:
            advantages = whiten(advantages, mask, self.ranks.reduce)
        sums: dict[str, Any] = {
            "rows": len(scores),
            "tokens": mask.sum(),
            "reward": scores.sum(),
            "kl": kl.sum(),
            "negative": ((kl < -_NOISE) & mask).sum(),
            "returns": returns.sum(),
            "finished": rollout.finished.sum(),
            "error": torch.where(mask, (values - returns).square(), 0.0).sum(),
        }
        return Experience(sequences, mask, old, values, advantages, returns), sums

    def _update(
        self, data: Experience, minibatch: int, updates: int, rate_share: float
    ) -> tuple[dict[str, Any], dict[str, float]]:
        settings, size = self.settings, len(data.mask) // self.settings.minibatches
        first = minibatch * size
        tokens = float(self.ranks.reduce(data.mask[first : first + size].sum()))
        sums: dict[str, Any] = {}
        for part in micro_slices(size, self.micro, self.accumulation):
            rows = slice(first + part.start, first + part.stop)
            mask, sequences = data.mask[rows], data.sequences.rows(rows)
            select, labels = selected_labels(sequences.input_ids, sequences.response_mask)
            logits = self.policy(sequences.input_ids, select)
            logprobs = token_logprobs(logits, labels, settings.temperature)
            # The only update of a rollout starts from the policy that wrote it: the ratio is 1, its gradient is not.
            old = logprobs.detach() if self._single else data.old_logprobs[rows][mask]
            loss, clipped = policy_loss(logprobs, old, data.advantages[rows][mask], settings.clip_range)
            self.policy.backward(loss / tokens)
            values = self.value(sequences.input_ids)[select]
            error, value_clipped = value_loss(
                values, data.old_values[rows][mask], data.returns[rows][mask], settings.value_clip_range
            )
            self.value.backward(settings.value_coef * error / tokens)
            with torch.no_grad():
                log_ratio = logprobs - old
                part_sums = {
                    "loss": loss.detach() / tokens,
                    "value_loss": error.detach() / tokens,
                    "clipped": clipped / tokens,
                    "value_clipped": value_clipped / tokens,
                    "entropy": entropy(logits.detach(), settings.temperature).sum() / tokens,
                    "ratio": log_ratio.exp().sum() / tokens,
                    "approx_kl": kl_estimate(-log_ratio, torch.zeros_like(log_ratio), "k3").sum() / tokens,
                }
            for name, value in part_sums.items():
                sums[name] = sums.get(name, 0.0) + value
        norms = {
            "grad_norm": self.policy.step(settings.optimizer.learning_rate * rate_share),
            "value_grad_norm": self.value.step(settings.value_learning_rate * rate_share),
        }
        return {name: value / updates for name, value in sums.items()}, norms

    def _figures(self, totals: dict[str, float], rollout: Rollout, updates: int) -> dict[str, float]:
        rows, tokens = totals["rows"], totals["tokens"]
        answers = [answer for part in self.ranks.gather(rollout.responses()) for answer in part]
        return {
            "loss": totals["loss"],
            "reward": totals["reward"] / rows,
            "kl": totals["kl"] / rows,
            "negative_kl_share": totals["negative"] / tokens,
            "entropy": totals["entropy"],
            "clip_share": totals["clipped"],
            "ratio": totals["ratio"],
            "approx_kl": totals["approx_kl"],
            "value_loss": totals["value_loss"],
            "value_error": totals["error"] / tokens,
            "value_clip_share": totals["value_clipped"],
            "return": totals["returns"] / tokens,
            "length": tokens / rows,
            "finished_share": totals["finished"] / rows,
            "distinct_2": distinct_n(answers),
        }

    # Passes over the models, in micro-batches

    def _logprobs(self, policy: Any, sequences: TokenBatch, mask: Tensor) -> Tensor:
        """Log-probabilities of the response tokens at the sampling temperature: (B, T)."""
        dense = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        found = []
        for part in self._parts(len(mask)):
            rows = sequences.rows(part)
            select, labels = selected_labels(rows.input_ids, rows.response_mask)
            found.append(token_logprobs(policy(rows.input_ids, select), labels, self.settings.temperature))
        dense[mask] = torch.cat(found)
        return dense

    def _values(self, sequences: TokenBatch, mask: Tensor) -> Tensor:
        dense = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        found = []
        for part in self._parts(len(mask)):
            rows = sequences.rows(part)
            select, _ = selected_labels(rows.input_ids, rows.response_mask)
            found.append(self.value(rows.input_ids)[select])
        dense[mask] = torch.cat(found)
        return dense

    @torch.no_grad()
    def _kl(self, rollout: Rollout) -> Tensor:
        """Log-ratio of policy to reference at each sampled token: (B, T)."""
        sequences = rollout.sequences(self.chat.pad_id).to(self.ranks.device)
        ref = self._logprobs(self.reference, sequences, rollout.response_mask)
        return torch.where(rollout.response_mask, kl_estimate(rollout.logprobs, ref), 0.0)

    def _parts(self, rows: int) -> list[slice]:
        size = min(self.micro, rows)
        return [slice(i, min(i + size, rows)) for i in range(0, rows, size)]

    # Preparation

    def _check_sizes(self) -> None:
        settings, world = self.settings, self.ranks.world
        rows, rest = divmod(settings.batch_size, world * settings.minibatches)
        if rest:
            raise BadInput(
                f"stage {settings.name}: batch_size {settings.batch_size} must be a multiple of ranks x minibatches "
                f"({world} x {settings.minibatches}), so that every rank makes the same number of updates"
            )
        self.micro = min(settings.launch.micro_batch_size or rows, rows)
        self.accumulation = -(-rows // self.micro)

    @property
    def _single(self) -> bool:
        return self.settings.ppo_epochs * self.settings.minibatches == 1

    def _frozen(self, module: Any) -> Any:
        dtype = torch.bfloat16 if self.settings.precision == "bf16" else torch.float32
        return module.to(self.ranks.device, dtype).eval().requires_grad_(False)

    def _own(self, items: list[int]) -> list[int]:
        """This rank's part of a batch: of every minibatch, its share. So minibatches hold the same rows on any
        number of ranks."""
        settings = self.settings
        size = len(items) // settings.minibatches
        parts = [items[i * size : (i + 1) * size] for i in range(settings.minibatches)]
        return [item for part in parts for item in part[self.ranks.rank :: self.ranks.world]]

    def _read(self, path: Path) -> tuple[list[tuple[Record, list[int]]], int]:
        """(prompts with their token ids, dropped as too long)."""
        records = [record.prompt() for record in read_records(path)] if path.exists() else []
        encoded = list(zip(records, self.chat.prompts(records), strict=True))
        kept = [(record, ids) for record, ids in encoded if len(ids) <= self.settings.max_prompt_length]
        return kept, len(encoded) - len(kept)

    def _reference_scores(self) -> Normalisation:
        """Scores of the starting policy's answers to the first batch of training prompts (of every rank its part)."""
        settings = self.settings
        prompts = [self.prompts[i] for i in self._own(self.order.batch(1))]
        uniforms = noise(settings.seed, 2**31, settings.batch_size, settings.max_new_tokens)
        rollout = self._answer(prompts, uniforms[self._own(list(range(settings.batch_size)))])
        scores = self.reward_model.score_rollout(rollout, [record for record, _ in prompts]).double()
        totals = self.ranks.sums(
            {"sum": scores.sum(), "squares": scores.square().sum(), "count": len(scores)}
        )
        return normalisation(totals["sum"], totals["squares"], totals["count"])
