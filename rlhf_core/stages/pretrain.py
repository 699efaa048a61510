"""Pretraining: predict every next token of the packed corpus, from a fresh model or a given one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_core.dataset.batches import InOrder, Order, pad_right
from rlhf_core.dataset.blocks import pack, windows
from rlhf_core.dataset.chat_template import Chat, load_chat
from rlhf_core.dataset.mixture import mix, read_plan
from rlhf_core.dataset.token_store import joined, tokenized
from rlhf_core.engine import Ranks, shape_of, split_on_loading
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs, check_length, portion
from rlhf_core.measures.likelihood import nll, row_nats
from rlhf_core.models.networks import PolicyModel, fresh_policy, load_policy, train_new_rows
from rlhf_core.settings import PretrainStage
from rlhf_core.stages.supervised import Supervised

_EVAL_ROWS = 32


class Pretrain(Supervised):
    """Data are packed blocks; held-out documents give loss, perplexity and bits per byte, in all and per language."""

    settings: PretrainStage

    def __init__(self, settings: PretrainStage, inputs: Inputs, ranks: Ranks) -> None:
        chat, module = _model(settings, inputs)
        check_length(settings, module.model)
        data = inputs.folder("data")
        plan = read_plan(data / "plan.json") if (data / "plan.json").is_file() else None
        held_out, train = [], {}
        for name, folder in _folders(settings, inputs, plan).items():
            documents = tokenized(folder, chat, inputs.scratch("tokens"), ranks)
            chosen = documents.are_held_out(settings.eval_share)
            train[name] = documents.rows(~chosen)
            # A corpus of a few documents may have none below the share: then its first stands in.
            held_out.append(documents.rows(chosen if chosen.any() else np.arange(min(1, len(documents)))))
        self.documents = sum(map(len, train.values()))
        self.held_out = windows(joined(held_out), chat.end_id, settings.max_length)
        self.read: dict[str, dict[str, int]] = {}  # of a mixture: tokens that all steps read, by phase and source
        if plan:
            mixture = mix(plan, train, chat.end_id, settings.max_length, inputs.scratch("mixture"), ranks)
            self.blocks, rows = mixture.blocks, len(mixture.blocks)
            reads = settings.steps * settings.batch_size if settings.steps else max(1, round((settings.epochs or 1.0) * rows))
            order: Order | InOrder = InOrder(rows, settings.batch_size, reads)
            self.read = mixture.read(reads)
        else:
            passes = [1.0, *settings.blend.values()]
            parts = [
                part.rows(portion(len(part), times, settings.seed))
                for part, times in zip(train.values(), passes, strict=True)
            ]
            self.blocks = pack(joined(parts), chat.end_id, settings.max_length, settings.seed)
            order = Order(len(self.blocks), settings.batch_size, settings.seed)
        super().__init__(settings, ranks, chat, module, order)

    def weigh(self, indices: list[int]) -> int:
        return len(indices) * (self.settings.max_length - 1)

    def tokens(self, indices: list[int]) -> int:
        return len(indices) * self.settings.max_length

    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        # A rank that has no row left runs the model on one that does not count, or the others would wait for it.
        input_ids = self.blocks[indices or [0]].to(self.ranks.device)
        mask = torch.full_like(input_ids, bool(indices), dtype=torch.bool)
        mask[:, 0] = False
        return nll(self.engine, input_ids, mask).sum(), {}

    def evaluate(self) -> dict[str, float]:
        documents, found, world = self.held_out.documents, self.held_out, self.ranks.world
        langs = documents.langs
        sizes = np.bincount(documents.lang, documents.size, len(langs)) / world
        nats, tokens = np.zeros(len(langs)), np.zeros(len(langs))
        count = -(-len(found) // _EVAL_ROWS)
        for index in range(-(-count // world)):  # as many passes on every rank (ZeRO-3)
            number = index * world + self.ranks.rank
            first = (number if number < count else 0) * _EVAL_ROWS
            rows = range(first, min(first + _EVAL_ROWS, len(found)))
            batch = pad_right([found.tokens(row) for row in rows], self.chat.pad_id).to(self.ranks.device)
            with torch.no_grad():
                losses = row_nats(self.engine, batch)
            if number < count:
                own = documents.lang[found.row[rows.start : rows.stop]]
                np.add.at(nats, own, losses)
                np.add.at(tokens, own, found.length[rows.start : rows.stop] - 1)
        sums = {
            f"{kind} {lang}": value
            for kind, values in (("nll", nats), ("tokens", tokens), ("bytes", sizes))
            for lang, value in zip(langs, values.tolist(), strict=True)
        }
        totals = self.ranks.sums(sums)
        langs = [lang for lang in langs if totals[f"tokens {lang}"]]
        figures = _figures(totals, langs, "")
        for lang in langs if len(langs) > 1 else []:
            figures |= _figures(totals, [lang], f"_{lang}")
        return figures

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        named = {
            name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")
        }
        return {
            **named,
            "train_loss": last["loss"],
            "documents": self.documents,
            "eval_documents": len(self.held_out.documents),
            "tokens": len(self.blocks) * self.blocks.width,
            **({"mixture": self.read} if self.read else {}),
            "tokens_seen": sum(sum(phase.values()) for phase in self.read.values())
            or self.steps * self.settings.batch_size * (self.settings.max_length - 1),
            "parameters": sum(shape_of(p).numel() for p in self.engine.module.parameters()),
        }


def _model(settings: PretrainStage, inputs: Inputs) -> tuple[Chat, PolicyModel]:
    """A fresh model for a tokenizer; or a given one, with its own vocabulary or with an extended one."""
    attention = settings.launch.attention
    chat = load_chat(inputs.model("tokenizer" if inputs.has("tokenizer") else "init"))
    if not inputs.has("init"):
        return chat, fresh_policy(settings.model, chat, settings.seed, attention)
    with split_on_loading(settings.launch, settings.precision):
        policy = load_policy(inputs.model("init"), chat, settings.precision, attention)
    if settings.trained == "new_rows":
        train_new_rows(policy.model)
    return chat, policy


def _folders(settings: PretrainStage, inputs: Inputs, plan: dict[str, Any] | None) -> dict[str, Path]:
    """What is read: the sources of a mixture by name, or `data` and what is blended into it."""
    if plan and settings.blend:
        raise BadInput(f"stage {settings.name}: blend: the plan in {inputs.folder('data')} names all that is read; put the further data into it")
    if plan is None:
        return {role: inputs.folder(role) for role in settings.datasets()}
    roles = {name: f"source:{name}" for phase in plan["phases"] for name in phase["read"]}
    inside = inputs.folder("data") / "sources"
    return {name: inputs.folder(role) if inputs.has(role) else inside / name for name, role in roles.items()}


def _figures(totals: dict[str, float], langs: Sequence[str], suffix: str) -> dict[str, float]:
    total, tokens, size = (
        sum(totals[f"{kind} {lang}"] for lang in langs) for kind in ("nll", "tokens", "bytes")
    )
    loss = total / max(tokens, 1)
    return {
        f"eval_loss{suffix}": loss,
        f"eval_perplexity{suffix}": math.exp(min(loss, 50.0)),
        f"eval_bits_per_byte{suffix}": total / math.log(2) / max(size, 1),
    }
