"""A small OPT's next tokens: `rlhf_core.generation.opt`'s function for one token a row, in float32.

In bf16 torch's products compile a kernel for every shape they meet, and rows become fewer as answers end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_core.generation import opt
from rlhf_core.generation.small_decoding import SmallDecoder


@dataclass(frozen=True)
class Layer:
    """A block's weights (in, out) and biases, float32; `into` and `wide` hold the norm before them, `into` the queries' scale."""

    into: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    wide: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]


class OptDecoder(SmallDecoder):
    @torch.no_grad()
    def __init__(self, model: Any, max_new_tokens: int) -> None:
        config, decoder = model.config, model.base_model.decoder
        self.heads = config.num_attention_heads
        super().__init__(model, max_new_tokens, self.heads)
        self.size = config.hidden_size // self.heads
        self.layers = [self._layer(layer) for layer in decoder.layers]
        norm = decoder.final_layer_norm
        self.tokens = decoder.embed_tokens.weight.float()
        self.places = decoder.embed_positions.weight[decoder.embed_positions.offset :].float()
        self.head = _after(norm, model.lm_head.weight, model.lm_head.weight.new_zeros(()))
        self.eps = norm.eps

    def read(self, input_ids: Tensor, last: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        return opt.hidden_states(self.model, input_ids, last, cache)

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> Tensor:
        rows = len(tokens)
        hidden = F.embedding(tokens, self.tokens) + F.embedding(self.positions, self.places)
        for number, layer in enumerate(self.layers):
            states = self._product(self._norm(hidden), layer.into).view(rows, 3, self.heads, self.size)
            mixed = self.attend(number, *states.unbind(1))
            hidden += self._product(mixed, layer.out)
            inner = F.relu_(self._product(self._norm(hidden), layer.wide))
            hidden += self._product(inner, layer.narrow)
        self.advanced()
        return self._product(self._norm(hidden), self.head)

    def _norm(self, hidden: Tensor) -> Tensor:
        return F.layer_norm(hidden, hidden.shape[1:], eps=self.eps)

    @staticmethod
    def _product(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return torch.addmm(weights[1], x, weights[0])

    def _layer(self, layer: Any) -> Layer:
        query, key, value, out, wide, narrow = opt.linears(layer)
        weight = torch.cat([m.weight for m in (query, key, value)])
        bias = torch.cat([m.bias for m in (query, key, value)])
        into = _after(layer.self_attn_layer_norm, weight, bias)
        for part in into:
            part[..., : len(query.weight)] *= self.size**-0.5
        plain = [(m.weight.t().float().contiguous(), m.bias.float()) for m in (out, narrow)]
        return Layer(into, plain[0], _after(layer.final_layer_norm, wide.weight, wide.bias), plain[1])


def _after(norm: Any, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """(weight (in, out), bias) of a product of plain norms that equals the product of norms with their own weights."""
    wide = weight.float()
    return (wide * norm.weight.float()).t().contiguous(), wide @ norm.bias.float() + bias.float()
