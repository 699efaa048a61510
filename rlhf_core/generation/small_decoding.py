"""Next tokens of small models on CPUs, one after the other, from a cache that never moves: what Llamas and OPTs share.

For such models transformers' forward for one token costs more than the arithmetic (about 4 ms on one core at width 128 and
4 layers). Prompts are read by the models' own forward; attention is two batched products, at width 128 and 64 rows a third of the
time of torch's fused attention for one query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch


class SmallDecoder(ABC):
    """Subclasses say how prompts are read, and what a layer does with one token a row.

    keys, values  of each layer (B kv heads, S, D) float32, S = longest prompt + new tokens; prompts padded on the right
    unseen        (B kv heads, 1, S), 0 or -inf where a prompt is padded; None where none is
    positions     (B,) of the next token
    """

    def __init__(self, model: Any, max_new_tokens: int, kv_heads: int) -> None:
        self.model, self.max_new_tokens, self.kv_heads = model, max_new_tokens, kv_heads

    @abstractmethod
    def read(self, input_ids: Tensor, last: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The model's `hidden_states` of prompts (B, P), right-padded, at their last tokens."""

    @abstractmethod
    def advance(self, tokens: Tensor) -> Tensor:
        """Append tokens (B,) and give the next logits (B, V)."""

    @torch.no_grad()
    def prefill(self, prompts: PromptBatch) -> Tensor:
        """Read the prompts; logits (B, V) of each row's next token."""
        rows, width = prompts.input_ids.shape
        self.positions = prompts.attention_mask.sum(1)
        places = torch.arange(width)
        shift = (width - self.positions).unsqueeze(1)
        input_ids = prompts.input_ids.gather(1, (places + shift) % width)
        cache: list[tuple[Tensor, Tensor]] = []
        hidden = self.read(input_ids, places == (self.positions - 1).unsqueeze(1), cache)
        self.filled, total = width, width + self.max_new_tokens
        self.keys, self.values = ([_longer(kept[part], total) for kept in cache] for part in (0, 1))
        self.unseen = None
        if shift.any():
            unseen = torch.zeros(rows, total)
            unseen[:, :width].masked_fill_(places >= self.positions.unsqueeze(1), float("-inf"))
            self.unseen = unseen.repeat_interleave(self.kv_heads, 0).unsqueeze(1)
        logits: Tensor = self.model.lm_head(hidden)
        return logits

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep the token's key and value (B, kv heads, D), and mix what is kept: query (B, heads, D), scaled -> (B, heads D)."""
        rows, heads, size = query.shape
        keys, values, end = self.keys[layer], self.values[layer], self.filled + 1
        keys.view(rows, self.kv_heads, -1, size)[:, :, self.filled] = key
        values.view(rows, self.kv_heads, -1, size)[:, :, self.filled] = value
        # the queries of a group stand in for a sequence: they all attend to the same keys
        scores = torch.bmm(query.reshape(rows * self.kv_heads, -1, size), keys[:, :end].transpose(1, 2))
        if self.unseen is not None:
            scores += self.unseen[..., :end]
        return torch.bmm(scores.softmax(-1), values[:, :end]).view(rows, heads * size)

    def advanced(self) -> None:
        """Every layer has kept its token."""
        self.filled, self.positions = self.filled + 1, self.positions + 1

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (indices into the current ones) alone."""
        stacked = (rows.unsqueeze(1) * self.kv_heads + torch.arange(self.kv_heads)).flatten()
        self.keys, self.values = ([kept[stacked] for kept in cache] for cache in (self.keys, self.values))
        self.unseen = None if self.unseen is None else self.unseen[stacked]
        self.positions = self.positions[rows]


def _longer(kept: Tensor, total: int) -> Tensor:
    """A cache (B kv heads, L, D) with room for `total` places."""
    whole = kept.new_empty(len(kept), total, kept.shape[2])
    whole[:, : kept.shape[1]] = kept
    return whole
