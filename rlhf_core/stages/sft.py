"""Supervised fine-tuning: predict the answers of conversations, nothing else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import dealt, pad_right
from rlhf_core.dataset.chat_template import Chat, Tokens, load_chat
from rlhf_core.dataset.records import read_records
from rlhf_core.engine import Ranks, split_on_loading
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs, check_length, portion
from rlhf_core.measures.likelihood import nll
from rlhf_core.models.networks import load_policy
from rlhf_core.settings import SftStage
from rlhf_core.stages.supervised import Supervised, ordered

_EVAL_ROWS = 32


class Sft(Supervised):
    """The loss is the mean over the answer tokens of the whole batch (long answers weigh more), end tokens included."""

    def __init__(self, settings: SftStage, inputs: Inputs, ranks: Ranks) -> None:
        chat = load_chat(inputs.model("init"))
        with split_on_loading(settings.launch, settings.precision):
            module = load_policy(inputs.model("init"), chat, settings.precision, settings.launch.attention)
        check_length(settings, module.model)
        data = inputs.folder("data")
        self.train, self.dropped, self.cut, self.divided = self._read(inputs.examples("data"), chat, settings.max_length)
        for number, passes in enumerate(settings.blend.values(), 1):
            path = inputs.examples(f"data_{number}")
            examples, dropped, cut, divided = self._read(path, chat, settings.max_length)
            self.train += [examples[place] for place in portion(len(examples), passes, settings.seed)]
            self.dropped, self.cut, self.divided = self.dropped + dropped, self.cut + cut, self.divided + divided
        self.held_out = self._read(data / "eval.jsonl", chat, settings.max_length)[0]
        self.held_out.sort(key=len)
        if not self.train:
            raise BadInput(f"{data / 'train.jsonl'}: no example is left to train on ({self.dropped} had no room for their answer)")
        super().__init__(settings, ranks, chat, module, ordered(settings, [len(tokens) for tokens in self.train]))

    @staticmethod
    def _read(path: Any, chat: Chat, max_length: int) -> tuple[list[Tokens], int, int, int]:
        """(examples, dropped because no answer token fits, cut, conversations that are an example for each of their answers)."""
        rows = chat.rows(read_records(path)) if path.exists() and path.stat().st_size else []
        whole = [tokens for own in rows for tokens in own]
        kept = [tokens.cut(max_length) for tokens in whole]
        fitting = [tokens for tokens in kept if any(tokens.mask[1:])]
        cut = sum(len(tokens) > max_length for tokens in whole)
        return fitting, len(kept) - len(fitting), cut, sum(len(own) > 1 for own in rows)

    def weigh(self, indices: list[int]) -> int:
        return sum(sum(self.train[i].mask[1:]) for i in indices)

    def tokens(self, indices: list[int]) -> int:
        return sum(len(self.train[i]) for i in indices)

    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        batch = pad_right([self.train[i] for i in indices], self.chat.pad_id).to(self.ranks.device)
        return nll(self.engine, batch.input_ids, batch.response_mask).sum(), {}

    def evaluate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        total = tokens = 0.0
        for examples, counts in dealt(self.held_out, _EVAL_ROWS, self.ranks.rank, self.ranks.world):
            batch = pad_right(list(examples), self.chat.pad_id).to(self.ranks.device)
            with torch.no_grad():
                losses = nll(self.engine, batch.input_ids, batch.response_mask)
            if counts:
                total += float(losses.sum())
                tokens += losses.numel()
        sums = self.ranks.sums({"loss": total, "tokens": tokens})
        loss = sums["loss"] / sums["tokens"]
        return {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 50.0))}

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        held_out: dict[str, Any] = {
            name: last[name] for name in ("eval_loss", "eval_perplexity") if name in last
        }
        counts = {"examples": len(self.train), "dropped_too_long": self.dropped, "cut": self.cut, "divided_conversations": self.divided}
        return {**held_out, "train_loss": last["loss"], **counts, "added_to_tokenizer": self.chat.added}
