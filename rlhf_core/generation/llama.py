"""Small Llamas on CPUs: transformers' forward (modeling_llama.py) in fewer passes over memory, forwards and backwards.

At width 128 the matrix products take half of the time that transformers' forward and its backward take; the rest goes
into some sixty small operations a block, each of which reads and writes all activations. Here a block has two of its
own, each with its backward written out: the attention and the gated layer, both with the norm before them. Nothing is
learned here and nothing is kept: the weights are the model's. The tests hold both to the same outputs and gradients.

Gradients of weights that are wider than their input are formed as its transpose: MKL multiplies (H, N) by (N, wide) a
third to three quarters faster than the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    )


def is_plain(base: Any) -> bool:
    """A small, whole LlamaModel in float32 without what this file leaves out: biases, scaled or partial rotation, other
    activations, adapters."""
    config = base.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and config.head_dim * config.num_attention_heads == base.layers[0].self_attn.q_proj.weight.shape[0]
        and all(type(m) is nn.Linear for layer in base.layers for m in linears(layer))
        and is_small(base)
        and all(p.dtype == torch.float32 and not hasattr(p, "ds_id") for p in base.parameters())
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


@dataclass(frozen=True)
class Shape:
    """What an attention must know of its batch and model.

    rotation  (length, size / 2) complex64, e^(i position frequency)
    later     (groups length, length), -inf where a query must not look. The queries of a group stand in for longer
              sequences: they attend to the same keys.
    """

    rows: int
    length: int
    heads: int
    kv_heads: int
    size: int
    eps: float
    rotation: Tensor
    later: Tensor


def shape_of(base: Any, rows: int, length: int) -> Shape:
    config = base.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    later = torch.full((length, length), float("-inf")).triu(1).repeat(heads // kv_heads, 1)
    rotation = rotations(base.rotary_emb, length)
    return Shape(rows, length, heads, kv_heads, config.head_dim, config.rms_norm_eps, rotation, later)


def hidden_states(
    model: Any, input_ids: Tensor, select: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """The last hidden states, normed, of right-padded rows: input_ids (B, L), select (B, L) bool -> (N, hidden) float32
    at the selected places, row by row. The last block computes nothing else there.

    A `cache` is given every block's keys (rotated, interleaved) and values, (B kv heads, L, D) each, without gradients.
    """
    base = model.base_model
    shape = shape_of(base, *input_ids.shape)
    packing = pack(input_ids, select)
    tokens, places = input_ids.reshape(-1), select.reshape(-1).nonzero().squeeze(1)
    if packing:
        tokens, places = tokens[packing.fresh], packing.found[places]
    hidden = F.embedding(tokens, base.embed_tokens.weight)
    for number, layer in enumerate(base.layers):
        query, key, value, out, gate, up, down = (linear.weight for linear in linears(layer))
        into = (interleaved(query, shape.size), interleaved(key, shape.size), value)
        norm = layer.input_layernorm.weight
        if cache is None:
            mixed = _attended(hidden, norm, *into, shape, packing)
        else:
            mixed, (*_, keys, values, _) = _attend(hidden, norm, torch.cat(into), shape, packing)
            cache.append((keys, values))
        if number + 1 == len(base.layers):
            hidden, mixed = hidden.index_select(0, places), mixed.index_select(0, places)
        hidden = torch.addmm(hidden, mixed, out.t())
        hidden = _gated(hidden, layer.post_attention_layernorm.weight, gate, up, down, shape.eps)
    return _normed(hidden, base.norm.weight, shape.eps)


def rotations(rotary: Any, length: int) -> Tensor:
    """e^(i position frequency): (length, size / 2) complex64."""
    places = torch.arange(length, dtype=torch.float32)
    angles = torch.outer(places, rotary.inv_freq.float())
    return torch.polar(torch.full_like(angles, float(rotary.attention_scaling)), angles)


def interleaved(weight: Tensor, size: int) -> Tensor:
    """A query's or key's weight with the two halves of each head interleaved, so that a pair which is rotated together
    is one complex number. Their products are sums over the head, in whatever order."""
    pairs = weight.view(-1, 2, size // 2, weight.shape[1]).transpose(1, 2)
    return pairs.reshape(weight.shape)


def _scale(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) of each row: (N, H) -> (N, 1)."""
    squares: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_()
    return squares.div_(x.shape[1]).add_(eps).rsqrt_()


def _norm_backward(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of x * scale * weight: (gradient of x divided by scale, in the place of `grad`; gradient of weight)."""
    # With n = x * scale: dx = scale * (g w - n mean(g w n)), dw = sum of g n.
    normed = x * scale
    product = grad * normed
    along = torch.mv(product, weight).div_(x.shape[1]).unsqueeze(1)
    return grad.mul_(weight).addcmul_(normed, along, value=-1), product.sum(0)


class _Norm(torch.autograd.Function):
    """Root-mean-square norm (Zhang & Sennrich 2019): x (N, H), weight (H,) -> x / sqrt(mean(x^2) + eps) * weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        inner, d_weight = _norm_backward(grad.clone(), x, weight, scale)
        return inner.mul_(scale), d_weight, None


class _Gated(torch.autograd.Function):
    """x + (silu(n gate) * (n up)) down, n the norm of x: x (N, H), norm (H,), gate and up (I, H), down (H, I)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float
    ) -> Tensor:
        scale = _scale(x, eps)
        normed = torch.mul(x, scale).mul_(norm)
        opened, raised = F.linear(normed, gate), F.linear(normed, up)
        silu = F.silu(opened)
        ctx.save_for_backward(x, scale, normed, opened, raised, silu, norm, gate, up, down)
        return torch.addmm(x, silu * raised, down.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, normed, opened, raised, silu, norm, gate, up, down = ctx.saved_tensors
        d_down = torch.mm(grad.t(), silu * raised)
        d_raised = torch.mm(grad, down)
        d_opened = torch.ops.aten.silu_backward(d_raised * raised, opened)
        d_raised.mul_(silu)
        d_gate, d_up = torch.mm(normed.t(), d_opened).t(), torch.mm(normed.t(), d_raised).t()
        d_normed = torch.mm(d_opened, gate).addmm_(d_raised, up)
        inner, d_norm = _norm_backward(d_normed, x, norm, scale)
        return torch.addcmul(grad, inner, scale), d_norm, d_gate, d_up, d_down, None


def _attend(
    x: Tensor, norm: Tensor, into: Tensor, shape: Shape, packing: Packing | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(mixed (N, heads D), (scale, normed, q, k, v, weights)): x (N, H); into ((heads + 2 kv heads) D, H), query, key and
    value, the first two interleaved; packing, without which N is B L."""
    rows, length, heads, kv_heads, size = shape.rows, shape.length, shape.heads, shape.kv_heads, shape.size
    scale = _scale(x, shape.eps)
    normed = torch.mul(x, scale).mul_(norm)
    states = F.linear(normed, into)
    if packing:
        states = packing.spread(states)
    query, key, value = _apart(states, shape)
    stacked = (rows * kv_heads, -1, size)
    q = _turned(query, shape.rotation * size**-0.5).view(stacked)
    k = _turned(key, shape.rotation).view(stacked)
    v = value.transpose(1, 2).contiguous().view(stacked)
    weights = torch.baddbmm(shape.later, q, k.transpose(1, 2)).softmax(dim=-1)
    mixed = _by_token(torch.bmm(weights, v), (rows, heads, length, size))
    return packing.gather(mixed) if packing else mixed, (scale, normed, q, k, v, weights)


class _Attention(torch.autograd.Function):
    """`_attend` with query, key and value apart: (heads D, H), (kv heads D, H) twice."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shape: Shape,
        packing: Packing | None,
    ) -> Tensor:
        into = torch.cat([query, key, value])
        mixed, kept = _attend(x, norm, into, shape, packing)
        ctx.save_for_backward(x, norm, into, *kept)
        ctx.shape, ctx.packing = shape, packing
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, into, scale, normed, q, k, v, weights = ctx.saved_tensors
        shape: Shape = ctx.shape
        packing: Packing | None = ctx.packing
        rows, length, heads, kv_heads, size = shape.rows, shape.length, shape.heads, shape.kv_heads, shape.size
        if packing:
            grad = grad.new_zeros(rows * length, grad.shape[1]).index_copy_(0, packing.fresh, grad)
        out = grad.view(rows, length, heads, size).transpose(1, 2).contiguous().view(q.shape)
        d_weights = torch.bmm(out, v.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        back = shape.rotation.conj().resolve_conj()
        states = torch.empty(rows * length, len(into), dtype=x.dtype, device=x.device)
        d_query, d_key, d_value = _apart(states, shape)
        _turn_back(torch.bmm(d_scores, k), back * size**-0.5, d_query)
        _turn_back(torch.bmm(d_scores.transpose(1, 2), q), back, d_key)
        d_value.copy_(torch.bmm(weights.transpose(1, 2), out).view(rows, kv_heads, length, size).transpose(1, 2))
        if packing:
            states = packing.gather_sum(states)  # queries that were not computed were not listened to: their part is 0
        d_into = torch.mm(normed.t(), states).t()
        inner, d_norm = _norm_backward(torch.mm(states, into), x, norm, scale)
        parts = torch.split_with_sizes(d_into, [heads * size, kv_heads * size, kv_heads * size])
        return inner.mul_(scale), d_norm, *parts, None, None


def _apart(states: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    """(B L, (heads + 2 kv heads) D) -> views (B, L, heads, D) of queries, keys and values."""
    whole = states.view(shape.rows, shape.length, -1, shape.size)
    return torch.split_with_sizes(whole, [shape.heads, shape.kv_heads, shape.kv_heads], dim=2)


def _turned(x: Tensor, rotation: Tensor) -> Tensor:
    """(B, L, heads, D) -> (B, heads, L, D / 2, 2), rotated on the way."""
    pairs = _pairs(x).transpose(1, 2)
    turned = torch.empty(pairs.shape, dtype=pairs.dtype, device=x.device)
    torch.mul(pairs, rotation, out=turned)
    return torch.view_as_real(turned)


def _turn_back(x: Tensor, rotation: Tensor, into: Tensor) -> None:
    """The way back: (B heads, L, D) by heads is written to (B, L, heads, D), rotated."""
    rows, length, heads, size = into.shape
    by_head = _pairs(x.view(rows, heads, length, size))
    torch.mul(by_head.transpose(1, 2), rotation.unsqueeze(1), out=_pairs(into))


def _pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D / 2) complex."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


def _by_token(x: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
    rows, heads, length, size = sizes
    return x.view(rows, heads, length, size).transpose(1, 2).reshape(rows * length, heads * size)


_normed: Callable[[Tensor, Tensor, float], Tensor] = _Norm.apply
_gated: Callable[..., Tensor] = _Gated.apply
_attended: Callable[..., Tensor] = _Attention.apply
