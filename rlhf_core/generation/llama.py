"""Small Llamas on CPUs: transformers' forward (modeling_llama.py) in fewer passes over memory, forwards and backwards.

At width 128 the matrix products take half of the time that transformers' forward and its backward take; the rest goes
into some sixty small operations a block, each of which reads and writes all activations. Here a block has two of its
own, each with its backward written out: the attention (`attention.py`) and the gated layer, both with the norm before them. Nothing is
learned here and nothing is kept: the weights are the model's. The tests hold both to the same outputs and gradients.

Gradients of weights that are wider than their input are formed as its transpose: MKL multiplies (H, N) by (N, wide) a
third to three quarters faster than the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlhf_core.generation.attention import Shape, attend, attend_backward, reading


def is_plain(base: Any) -> bool:
    """A LlamaModel in float32 without what this file leaves out: biases, scaled or partial rotation, other activations."""
    config = base.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and config.head_dim * config.num_attention_heads == base.layers[0].self_attn.q_proj.weight.shape[0]
        and all(p.dtype == torch.float32 for p in base.parameters())
    )


def layers(base: Any) -> Any:
    return base.layers


def linears(layer: Any) -> list[nn.Linear]:
    """A block's query, key, value, output, gate, up and down."""
    attention, inner = layer.self_attn, layer.mlp
    return [
        attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
        inner.gate_proj, inner.up_proj, inner.down_proj,
    ]  # fmt: skip


def hidden_states(
    model: Any, input_ids: Tensor, select: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """The last hidden states, normed, of right-padded rows: input_ids (B, L), select (B, L) bool -> (N, hidden) float32
    at the selected places, row by row. The last block computes nothing else there.

    A `cache` is given every block's keys (rotated, interleaved) and values, (B kv heads, L, D) each, without gradients.
    """
    base, config = model.base_model, model.config
    eps, heads = config.rms_norm_eps, (config.num_attention_heads, config.num_key_value_heads, config.head_dim)
    read = reading(input_ids, select, heads, torch.float32, rotations(base.rotary_emb, input_ids.shape[1]))
    hidden = base.embed_tokens(read.tokens)
    for layer in base.layers:
        last = layer is base.layers[-1]
        query, key, value, out, gate, up, down = (linear.weight for linear in linears(layer))
        into = (interleaved(query, config.head_dim), interleaved(key, config.head_dim), value)
        norm, shape = layer.input_layernorm.weight, read.last if last else read.inner
        if cache is None:
            mixed = _attended(hidden, norm, *into, shape, eps)
        else:
            *_, states = _states(hidden, norm, torch.cat(into), eps)
            mixed, (_, keys, values, _) = attend(states, shape)
            cache.append((keys, values))
        if last:
            hidden = hidden.index_select(0, read.places)
        hidden = torch.addmm(hidden, mixed, out.t())
        hidden = _gated(hidden, layer.post_attention_layernorm.weight, gate, up, down, eps)
    return _normed(hidden, base.norm.weight, eps)


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


def _states(x: Tensor, norm: Tensor, into: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(scale (N, 1), normed (N, H), states (N, ...)) of x (N, H): into ((heads + 2 kv heads) D, H), query, key and value, the
    first two interleaved."""
    scale = _scale(x, eps)
    normed = torch.mul(x, scale).mul_(norm)
    return scale, normed, F.linear(normed, into)


class _Attention(torch.autograd.Function):
    """`attend` to the norm of x (N, H) -> (M, heads D); query (heads D, H), key and value (kv heads D, H)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, query: Tensor, key: Tensor, value: Tensor, shape: Shape, eps: float
    ) -> Tensor:
        into = torch.cat([query, key, value])
        scale, normed, states = _states(x, norm, into, eps)
        mixed, kept = attend(states, shape)
        ctx.save_for_backward(x, norm, into, scale, normed, *kept)
        ctx.shape = shape
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, into, scale, normed, *kept = ctx.saved_tensors
        shape: Shape = ctx.shape
        states = attend_backward(grad, tuple(kept), shape)
        d_into = torch.mm(normed.t(), states).t()
        inner, d_norm = _norm_backward(torch.mm(states, into), x, norm, scale)
        widths = [heads * shape.size for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
        return inner.mul_(scale), d_norm, *torch.split_with_sizes(d_into, widths), None, None


_normed: Callable[[Tensor, Tensor, float], Tensor] = _Norm.apply
_gated: Callable[..., Tensor] = _Gated.apply
_attended: Callable[..., Tensor] = _Attention.apply
