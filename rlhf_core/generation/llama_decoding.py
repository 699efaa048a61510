"""A small Llama's next tokens: `rlhf_core.generation.llama`'s function for one token a row, from a cache that never moves.

The norms' weights are multiplied into the products that follow them once a rollout, and attention is two batched
products: at width 128 and 64 rows they take a third of the time of torch's fused attention for one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch
from rlhf_core.generation import llama


@dataclass(frozen=True)
class Layer:
    """A block's weights: `into` and `wide` hold the norm before them and the square root of the width.

    into ((heads + 2 kv heads) D, H), query (scaled) and key interleaved; out (H, heads D); wide (2 I, H), gate and up;
    down (H, I)
    """

    into: Tensor
    out: Tensor
    wide: Tensor
    down: Tensor


class LlamaDecoder:
    """keys, values  of each layer (B kv heads, S, D), S = longest prompt + new tokens; prompts padded on the right
    unseen        (B kv heads, 1, S), 0 or -inf where a prompt is padded; None where none is
    positions     (B,) of the next token
    """

    @torch.no_grad()
    def __init__(self, model: Any, max_new_tokens: int) -> None:
        self.model, self.max_new_tokens = model, max_new_tokens
        config = model.config
        self.heads, self.kv_heads, self.size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.width = config.hidden_size
        self.least = (self.width * config.rms_norm_eps) ** 0.5
        self.layers = [self._layer(layer) for layer in model.base_model.layers]
        self.head = self._after(model.base_model.norm, model.lm_head.weight)

    @torch.no_grad()
    def prefill(self, prompts: PromptBatch) -> Tensor:
        """Read the prompts; logits (B, V) of each row's next token."""
        rows, width = prompts.input_ids.shape
        self.positions = prompts.attention_mask.sum(1)
        places = torch.arange(width, device=self.positions.device)
        shift = (width - self.positions).unsqueeze(1)
        input_ids = prompts.input_ids.gather(1, (places + shift) % width)
        cache: list[tuple[Tensor, Tensor]] = []
        last = places == (self.positions - 1).unsqueeze(1)
        hidden = llama.hidden_states(self.model, input_ids, last, cache)
        self.filled, total = width, width + self.max_new_tokens
        self.keys, self.values = ([_longer(kept[part], total) for kept in cache] for part in (0, 1))
        self.unseen = None
        if shift.any():
            unseen = torch.zeros(rows, total, device=hidden.device)
            unseen[:, :width].masked_fill_(places >= self.positions.unsqueeze(1), float("-inf"))
            self.unseen = unseen.repeat_interleave(self.kv_heads, 0).unsqueeze(1)
        self.rotation = llama.rotations(self.model.base_model.rotary_emb, total).to(hidden.device)
        return F.linear(hidden, self.model.lm_head.weight)

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> Tensor:
        """Append tokens (B,) and give the next logits (B, V)."""
        rows, end, size = len(tokens), self.filled + 1, self.size
        hidden = F.embedding(tokens, self.model.base_model.embed_tokens.weight)
        rotation, turning = self.rotation[self.positions].unsqueeze(1), self.heads + self.kv_heads
        for layer, keys, values in zip(self.layers, self.keys, self.values, strict=True):
            states = F.linear(self._direction(hidden), layer.into).view(rows, -1, size)
            pairs = torch.view_as_complex(states[:, :turning].view(rows, turning, -1, 2))
            turned = torch.view_as_real(pairs * rotation).flatten(2)
            keys.view(rows, self.kv_heads, -1, size)[:, :, self.filled] = turned[:, self.heads :]
            values.view(rows, self.kv_heads, -1, size)[:, :, self.filled] = states[:, turning:]
            # the queries of a group stand in for a sequence: they all attend to the same keys
            query = turned[:, : self.heads].reshape(rows * self.kv_heads, -1, size)
            scores = torch.bmm(query, keys[:, :end].transpose(1, 2))
            if self.unseen is not None:
                scores += self.unseen[..., :end]
            mixed = torch.bmm(scores.softmax(-1), values[:, :end]).view(rows, -1)
            hidden = torch.addmm(hidden, mixed, layer.out.t())
            gate, up = F.linear(self._direction(hidden), layer.wide).chunk(2, dim=1)
            hidden = torch.addmm(hidden, F.silu(gate).mul_(up), layer.down.t())
        self.filled, self.positions = end, self.positions + 1
        return F.linear(self._direction(hidden), self.head)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (indices into the current ones) alone."""
        every = torch.arange(self.kv_heads, device=rows.device)
        stacked = (rows.unsqueeze(1) * self.kv_heads + every).flatten()
        self.keys, self.values = ([kept[stacked] for kept in cache] for cache in (self.keys, self.values))
        self.unseen = None if self.unseen is None else self.unseen[stacked]
        self.positions = self.positions[rows]

    def _direction(self, hidden: Tensor) -> Tensor:
        """Each row over the square root of its sum of squares plus H eps: its norm over the square root of the width."""
        length: Tensor = torch.linalg.vector_norm(hidden, dim=1, keepdim=True)
        direction: Tensor = hidden / torch.hypot(length, length.new_tensor(self.least))
        return direction

    def _layer(self, layer: Any) -> Layer:
        query, key, value, out, gate, up, down = (linear.weight for linear in llama.linears(layer))
        turned = (llama.interleaved(query, self.size) * self.size**-0.5, llama.interleaved(key, self.size))
        into = self._after(layer.input_layernorm, torch.cat([*turned, value]))
        return Layer(into, out, self._after(layer.post_attention_layernorm, torch.cat([gate, up])), down)

    def _after(self, norm: Any, weight: Tensor) -> Tensor:
        """The weight of a product of `_direction`s that equals the product of norms."""
        folded: Tensor = weight * (norm.weight * self.width**0.5)
        return folded


def _longer(kept: Tensor, total: int) -> Tensor:
    """A cache (B kv heads, L, D) with room for `total` places."""
    whole = kept.new_zeros(len(kept), total, kept.shape[2])
    whole[:, : kept.shape[1]] = kept
    return whole
