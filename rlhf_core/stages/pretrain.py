"""Pretraining: predict every next token of the packed corpus, from a fresh model or a given one."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import InOrder, pad_right
from rlhf_core.dataset.chat_template import Chat, load_chat
from rlhf_core.dataset.corpus import Document, held_out, pack, read_documents, windows
from rlhf_core.dataset.mixture import mix, read_plan
from rlhf_core.engine import Ranks
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
        self.train_documents: list[Document] = []
        self.eval_documents: list[Document] = []
        self.read: dict[str, dict[str, int]] = {}  # of a mixture: tokens by phase and source
        data, order = inputs.folder("data"), None
        if (data / "plan.json").is_file():
            plan = read_plan(data / "plan.json")
            names = dict.fromkeys(name for phase in plan["phases"] for name in phase["read"])
            sources = {name: self._divide(_source(inputs, name), chat, settings) for name in names}
            mixture = mix(plan, sources, chat.end_id, settings.max_length)
            blocks, self.read = mixture.rows, mixture.read
            order = InOrder(len(blocks), settings.batch_size)
        else:
            train = self._divide(data, chat, settings)
            for number, passes in enumerate(settings.blend.values(), 1):
                more = self._divide(inputs.folder(f"data_{number}"), chat, settings)
                train += portion(more, passes, settings.seed)
            blocks = pack(train, chat.end_id, settings.max_length, settings.seed)
        self.blocks = torch.from_numpy(blocks)
        super().__init__(settings, ranks, chat, module, len(self.blocks), order)

    def _divide(self, folder: Path, chat: Chat, settings: PretrainStage) -> list[Document]:
        """The documents of a source to train on; the others are held out, chosen by their ids."""
        documents = read_documents(folder, chat)
        train = [d for d in documents if not held_out(d.id, settings.eval_share)]
        # A corpus of a few documents may have none below the share: then its first stands in.
        self.eval_documents += [d for d in documents if held_out(d.id, settings.eval_share)] or documents[:1]
        self.train_documents += train
        return list(train)

    def weigh(self, indices: list[int]) -> int:
        return len(indices) * (self.settings.max_length - 1)

    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        input_ids = self.blocks[indices].to(self.ranks.device)
        mask = torch.ones_like(input_ids, dtype=torch.bool)
        mask[:, 0] = False
        return nll(self.engine, input_ids, mask).sum(), {}

    def evaluate(self) -> dict[str, float]:
        sums: dict[str, Any] = defaultdict(float)
        parts = [
            (document.lang, part)
            for document in self.eval_documents
            for part in windows(document, self.chat.end_id, self.settings.max_length)
        ]
        for document in self.eval_documents:
            sums[f"bytes {document.lang}"] = sums[f"bytes {document.lang}"] + document.size / self.ranks.world
        parts.sort(key=lambda item: len(item[1]))  # little padding
        batches = [parts[i : i + _EVAL_ROWS] for i in range(0, len(parts), _EVAL_ROWS)]
        own = batches[self.ranks.rank :: self.ranks.world]
        for index in range(-(-len(batches) // self.ranks.world)):  # as many passes on every rank (ZeRO-3)
            rows = own[index] if index < len(own) else batches[0]
            batch = pad_right([tokens for _, tokens in rows], self.chat.pad_id).to(self.ranks.device)
            with torch.no_grad():
                losses = row_nats(self.engine, batch)
            for (lang, tokens), loss in zip(rows if index < len(own) else [], losses, strict=False):
                sums[f"nll {lang}"] += loss
                sums[f"tokens {lang}"] += sum(tokens.mask)
        langs = sorted({document.lang for document in self.eval_documents})
        for lang in langs:  # the same keys on every rank
            sums[f"nll {lang}"] += 0.0
            sums[f"tokens {lang}"] += 0.0
        totals = self.ranks.sums(dict(sorted(sums.items())))
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
            "documents": len(self.train_documents),
            "eval_documents": len(self.eval_documents),
            "tokens": int(self.blocks.numel()),
            **({"mixture": self.read} if self.read else {}),
            "tokens_seen": self.steps * self.settings.batch_size * (self.settings.max_length - 1),
            "parameters": sum(p.numel() for p in self.engine.module.parameters()),
        }


def _model(settings: PretrainStage, inputs: Inputs) -> tuple[Chat, PolicyModel]:
    """A fresh model for a tokenizer; or a given one, with its own vocabulary or with an extended one."""
    attention = settings.launch.attention
    chat = load_chat(inputs.model("tokenizer" if inputs.has("tokenizer") else "init"))
    if not inputs.has("init"):
        return chat, fresh_policy(settings.model, chat, settings.seed, attention)
    policy = load_policy(inputs.model("init"), chat, settings.precision, attention)
    if settings.trained == "new_rows":
        train_new_rows(policy.model)
    return chat, policy


def _source(inputs: Inputs, name: str) -> Path:
    role = f"source:{name}"
    return inputs.folder(role) if inputs.has(role) else inputs.folder("data") / "sources" / name


def _figures(totals: dict[str, float], langs: list[str], suffix: str) -> dict[str, float]:
    total, tokens, size = (
        sum(totals[f"{kind} {lang}"] for lang in langs) for kind in ("nll", "tokens", "bytes")
    )
    loss = total / max(tokens, 1)
    return {
        f"eval_loss{suffix}": loss,
        f"eval_perplexity{suffix}": math.exp(min(loss, 50.0)),
        f"eval_bits_per_byte{suffix}": total / math.log(2) / max(size, 1),
    }
