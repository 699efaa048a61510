"""A small Llama's next tokens: `rlhf_core.generation.llama`'s function for one token a row.

The norms' weights are multiplied into the products that follow them once a rollout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch
from rlhf_core.generation import llama
from rlhf_core.generation.small_decoding import SmallDecoder


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


class LlamaDecoder(SmallDecoder):
    @torch.no_grad()
    def __init__(self, model: Any, max_new_tokens: int) -> None:
        config = model.config
        super().__init__(model, max_new_tokens, config.num_key_value_heads)
        self.turning, self.size = config.num_attention_heads + config.num_key_value_heads, config.head_dim
        self.width = config.hidden_size
        self.least = (self.width * config.rms_norm_eps) ** 0.5
        self.layers = [self._layer(layer) for layer in model.base_model.layers]
        self.head = self._after(model.base_model.norm, model.lm_head.weight)

    def prefill(self, prompts: PromptBatch) -> Tensor:
        logits = super().prefill(prompts)
        self.rotation = llama.rotations(self.model.base_model.rotary_emb, self.filled + self.max_new_tokens)
        return logits

    def read(self, input_ids: Tensor, last: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        return llama.hidden_states(self.model, input_ids, last, cache)

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> Tensor:
        rows, turning = len(tokens), self.turning
        hidden = F.embedding(tokens, self.model.base_model.embed_tokens.weight)
        rotation = self.rotation[self.positions].unsqueeze(1)
        for number, layer in enumerate(self.layers):
            states = F.linear(self._direction(hidden), layer.into).view(rows, -1, self.size)
            pairs = torch.view_as_complex(states[:, :turning].view(rows, turning, -1, 2))
            turned = torch.view_as_real(pairs * rotation).flatten(2)
            heads = turning - self.kv_heads
            mixed = self.attend(number, turned[:, :heads], turned[:, heads:], states[:, turning:])
            hidden = torch.addmm(hidden, mixed, layer.out.t())
            gate, up = F.linear(self._direction(hidden), layer.wide).chunk(2, dim=1)
            hidden = torch.addmm(hidden, F.silu(gate).mul_(up), layer.down.t())
        self.advanced()
        return F.linear(self._direction(hidden), self.head)

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
