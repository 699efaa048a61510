"""Small Llamas on CPUs: transformers' forward (modeling_llama.py) in fewer passes over memory, forwards and backwards.

At width 128 the matrix products take half of the time that transformers' forward and its backward take; the rest goes
into some sixty small operations a block, each of which reads and writes all activations. Here a block has three of
its own, each with its backward written out: the norm, the attention with its rotation, the gate. Nothing is learned
here and nothing is kept: the weights are the model's. The tests hold both to the same outputs and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlhf_core.generation.packing import Packing, pack

SMALL = 50_000_000  # parameters; above, the products dwarf everything else
SHORT = 256  # tokens; above, torch's fused attention, which keeps no square of them, is faster


def serves(model: Any, input_ids: Tensor) -> bool:
    """Whether `hidden_states` computes this Hugging Face model (with or without a head) for this batch."""
    base = model.base_model
    return (
        type(base).__name__ == "LlamaModel"
        and input_ids.shape[1] <= SHORT
        and input_ids.device.type == "cpu"
        and base.config._attn_implementation == "sdpa"
        and not getattr(base.layers[0], "gradient_checkpointing", False)
        and is_plain(base)
        and all(p.dtype == torch.float32 and not hasattr(p, "ds_id") for p in base.parameters())
    )


def is_plain(base: Any) -> bool:
    """A small LlamaModel without what this file leaves out: biases, scaled or partial rotation, other activations,
    adapters."""
    config = base.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and config.head_dim * config.num_attention_heads == base.layers[0].self_attn.q_proj.weight.shape[0]
        and all(type(m) is nn.Linear for layer in base.layers for m in linears(layer))
        and is_small(base)
    )


def is_small(model: Any) -> bool:
    """Whether what surrounds the products is worth saving."""
    return bool(sum(p.numel() for p in model.parameters()) <= SMALL)


def linears(layer: Any) -> list[nn.Linear]:
    """A block's query, key, value, output, gate, up and down."""
    attention, inner = layer.self_attn, layer.mlp
    return [
        attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
        inner.gate_proj, inner.up_proj, inner.down_proj,
    ]  # fmt: skip


def hidden_states(model: Any, input_ids: Tensor, select: Tensor) -> Tensor:
    """The last hidden states, normed, of right-padded rows: input_ids (B, L), select (B, L) bool -> (N, hidden) float32
    at the selected places, row by row. The last block computes nothing else there."""
    base = model.base_model
    config = base.config
    rows, length = input_ids.shape
    heads, kv_heads, size, eps = (
        config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.rms_norm_eps,
    )  # fmt: skip
    rotation = _rotation(base.rotary_emb, length)
    later = torch.full((length, length), float("-inf")).triu(1).repeat(heads // kv_heads, 1)
    packing = pack(input_ids, select)
    tokens, places = input_ids.reshape(-1), select.reshape(-1).nonzero().squeeze(1)
    if packing:
        tokens, places = tokens[packing.fresh], packing.found[places]
    hidden = F.embedding(tokens, base.embed_tokens.weight)
    for number, layer in enumerate(base.layers):
        query, key, value, out, gate, up, down = (linear.weight for linear in linears(layer))
        normed = _norm(hidden, layer.input_layernorm.weight, eps)
        mixed = _attend(
            F.linear(normed, _interleaved(query, size)),
            F.linear(normed, _interleaved(key, size)),
            F.linear(normed, value),
            rotation,
            later,
            (rows, length, heads, kv_heads, size),
            packing,
        )
        if number + 1 == len(base.layers):
            hidden, mixed = hidden.index_select(0, places), mixed.index_select(0, places)
        hidden = torch.addmm(hidden, mixed, out.t())
        normed = _norm(hidden, layer.post_attention_layernorm.weight, eps)
        gated = _gated(F.linear(normed, gate), F.linear(normed, up))
        hidden = torch.addmm(hidden, gated, down.t())
    return _norm(hidden, base.norm.weight, eps)


def _rotation(rotary: Any, length: int) -> Tensor:
    """e^(i position frequency): (length, size / 2) complex64."""
    places = torch.arange(length, dtype=torch.float32)
    angles = torch.outer(places, rotary.inv_freq.float())
    return torch.polar(torch.full_like(angles, float(rotary.attention_scaling)), angles)


def _interleaved(weight: Tensor, size: int) -> Tensor:
    """A query's or key's weight with the two halves of each head interleaved, so that a pair which is rotated together
    is one complex number. Their products are sums over the head, in whatever order."""
    pairs = weight.view(-1, 2, size // 2, weight.shape[1]).transpose(1, 2)
    return pairs.reshape(weight.shape)


class _Norm(torch.autograd.Function):
    """Root-mean-square norm (Zhang & Sennrich 2019): x (N, H), weight (H,) -> x / sqrt(mean(x^2) + eps) * weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        squares = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_()
        scale = squares.div_(x.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        # With n = x * scale: dx = scale * (g w - n mean(g w n)), dw = sum of g n.
        normed = x * scale
        product = grad * normed
        along = torch.mv(product, weight).div_(x.shape[1]).unsqueeze(1)
        inner = torch.mul(grad, weight).addcmul_(normed, along, value=-1).mul_(scale)
        return inner, product.sum(0), None


class _Gate(torch.autograd.Function):
    """silu(gate) * up, both (N, inner)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


class _Attention(torch.autograd.Function):
    """Rotation and causal attention over rows that are padded on the right.

    query (N, heads D), key and value (N, kv heads D), the first two interleaved; rotation (L, D / 2) complex; later
    (groups L, L), -inf where a query must not look; sizes (B, L, heads, kv heads, D); packing, without which N is B L
    -> (N, heads D). The queries of a group stand in for longer sequences: they attend to the same keys.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Tensor,
        later: Tensor,
        sizes: tuple[int, ...],
        packing: Packing | None,
    ) -> Tensor:
        rows, length, heads, kv_heads, size = sizes
        if packing:
            query, key, value = (packing.spread(states) for states in (query, key, value))
        stacked = (rows * kv_heads, -1, size)
        q = _turned(query, rotation * size**-0.5, (rows, length, heads, size)).view(stacked)
        k = _turned(key, rotation, (rows, length, kv_heads, size)).view(stacked)
        v = _by_head(value, (rows, length, kv_heads, size)).view(stacked)
        weights = torch.baddbmm(later, q, k.transpose(1, 2)).softmax(dim=-1)
        ctx.save_for_backward(q, k, v, weights, rotation)
        ctx.sizes, ctx.packing = sizes, packing
        out = _by_token(torch.bmm(weights, v), (rows, heads, length, size))
        return packing.gather(out) if packing else out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, rotation = ctx.saved_tensors
        rows, length, heads, kv_heads, size = ctx.sizes
        packing: Packing | None = ctx.packing
        if packing:
            grad = grad.new_zeros(rows * length, grad.shape[1]).index_copy_(0, packing.fresh, grad)
        out = _by_head(grad, (rows, length, heads, size)).view(q.shape)
        d_value = torch.bmm(weights.transpose(1, 2), out)
        d_weights = torch.bmm(out, v.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        back = rotation.conj().resolve_conj()
        d_query = _unturned(torch.bmm(d_scores, k), back * size**-0.5, (rows, heads, length, size))
        d_key = _unturned(torch.bmm(d_scores.transpose(1, 2), q), back, (rows, kv_heads, length, size))
        d_value = _by_token(d_value, (rows, kv_heads, length, size))
        if packing:
            # only computed queries were listened to, but their keys and values by all rows
            d_query, d_key, d_value = (
                packing.gather(d_query), packing.gather_sum(d_key), packing.gather_sum(d_value),
            )  # fmt: skip
        return d_query, d_key, d_value, None, None, None, None


def _turned(x: Tensor, rotation: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    """(B L, heads D) by tokens -> (B, heads, L, D) by heads, rotated on the way."""
    rows, length, heads, size = sizes
    pairs = torch.view_as_complex(x.view(rows, length, heads, size // 2, 2)).transpose(1, 2)
    turned = torch.empty(pairs.shape, dtype=pairs.dtype)
    torch.mul(pairs, rotation, out=turned)
    return torch.view_as_real(turned)


def _unturned(x: Tensor, rotation: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    """The way back: (B, heads, L, D) by heads -> (B L, heads D) by tokens, rotated."""
    rows, heads, length, size = sizes
    pairs = torch.view_as_complex(x.view(rows, heads, length, size // 2, 2)).transpose(1, 2)
    turned = torch.empty(pairs.shape, dtype=pairs.dtype)
    torch.mul(pairs, rotation.unsqueeze(1), out=turned)
    return torch.view_as_real(turned).view(rows * length, heads * size)


def _by_head(x: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    rows, length, heads, size = sizes
    return x.view(rows, length, heads, size).transpose(1, 2).contiguous()


def _by_token(x: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    rows, heads, length, size = sizes
    return x.view(rows, heads, length, size).transpose(1, 2).reshape(rows * length, heads * size)


_norm: Callable[[Tensor, Tensor, float], Tensor] = _Norm.apply
_gated: Callable[[Tensor, Tensor], Tensor] = _Gate.apply
_attend: Callable[..., Tensor] = _Attention.apply
