"""Small OPTs on CPUs: transformers' forward (modeling_opt.py) in fewer passes over memory, forwards and backwards.

As in `llama.py` a block has two functions with their backward written out, the attention (`attention.py`) and the inner
layer, both with the norm before them. Nothing is learned here and nothing is kept: the weights are the model's. The tests
hold both to the same outputs and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as once
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlhf_core.generation.attention import Shape, attend, attend_backward, reading


def is_plain(base: Any) -> bool:
    """An OPTModel in float32 or bf16 without what this file leaves out: norms behind the blocks, projected embeddings, other
    activations."""
    config = base.config
    return (
        config.do_layer_norm_before
        and not config._remove_final_layer_norm
        and config.enable_bias
        and config.layer_norm_elementwise_affine
        and config.word_embed_proj_dim == config.hidden_size
        and config.activation_function == "relu"
        and len({p.dtype for p in base.parameters()} | {torch.float32, torch.bfloat16}) == 2
    )


def layers(base: Any) -> Any:
    return base.decoder.layers


def linears(layer: Any) -> list[nn.Linear]:
    """A block's query, key, value, output and the two of its inner layer."""
    attention = layer.self_attn
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, layer.fc1, layer.fc2]


def hidden_states(
    model: Any, input_ids: Tensor, select: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """The last hidden states, normed, of right-padded rows: input_ids (B, L), select (B, L) bool -> (N, hidden) at the
    selected places, row by row. The last block computes nothing else there.

    A `cache` is given every block's keys and values, (B heads, L, D) float32 each, without gradients.
    """
    decoder, heads = model.base_model.decoder, model.config.num_attention_heads
    tokens, places = decoder.embed_tokens, decoder.embed_positions
    read = reading(input_ids, select, (heads, heads, model.config.hidden_size // heads), tokens.weight.dtype)
    hidden = tokens(read.tokens) + F.embedding(read.columns + places.offset, places.weight)
    for layer in decoder.layers:
        last = layer is decoder.layers[-1]
        query, key, value, out, wide, narrow = linears(layer)
        into, bias = (torch.cat([getattr(m, part) for m in (query, key, value)]) for part in ("weight", "bias"))
        norm, shape = layer.self_attn_layer_norm, read.last if last else read.inner
        if cache is None:
            mixed = _attended(hidden, norm.weight, norm.bias, into, bias, shape, norm.eps)
        else:
            mixed, (_, keys, values, _) = attend(product(_norm(hidden, norm), into, bias), shape)
            cache.append((keys, values))
        if last:
            hidden = hidden.index_select(0, read.places)
        hidden = _added(hidden, mixed, out.weight, out.bias)
        norm = layer.final_layer_norm
        hidden = _raised(
            hidden, norm.weight, norm.bias, wide.weight, wide.bias, narrow.weight, narrow.bias, norm.eps
        )
    return _norm(hidden[: read.asked], decoder.final_layer_norm)


def product(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """x weight^T + bias, without what is negative where `relu`; not differentiable. In bf16 torch's own linear adds the bias in a
    pass before the product and cuts in one after it: together they take longer than the product."""
    if x.dtype == torch.bfloat16 and len(x) and _fuses():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]
    made = F.linear(x, weight, bias)
    return made.relu_() if relu else made


@once
def _fuses() -> bool:
    """Whether this processor and this torch have oneDNN's products with a pass behind them (torch.compile uses them)."""
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _norm(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _norm_backward(grad: Tensor, x: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a layer norm of x (N, H): the gradients of x, weight and bias. `kept`: mean, 1 / deviation, weight, bias."""
    backward = torch.ops.aten.native_layer_norm_backward
    return backward(grad, x, x.shape[1:], *kept, [True, True, True])  # type: ignore[no-any-return]


class _Attention(torch.autograd.Function):
    """`attend` to the norm of x (N, H) -> (M, heads D); into (3 heads D, H), query, key and value, with its bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, norm_bias: Tensor, into: Tensor, bias: Tensor, shape: Shape, eps: float
    ) -> Tensor:
        normed, mean, inverse = torch.native_layer_norm(x, x.shape[1:], norm, norm_bias, eps)
        mixed, kept = attend(product(normed, into, bias), shape)
        ctx.save_for_backward(x, mean, inverse, norm, norm_bias, into, normed, *kept)
        ctx.shape = shape
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, norm, norm_bias, into, normed, *kept = ctx.saved_tensors
        states = attend_backward(grad, tuple(kept), ctx.shape)
        of_norm = _norm_backward(torch.mm(states, into), x, mean, inverse, norm, norm_bias)
        return *of_norm, torch.mm(states.t(), normed), states.sum(0), None, None


class _Added(torch.autograd.Function):
    """x + (mixed out^T + bias): x (N, H), mixed (N, heads D), out (H, heads D), bias (H,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mixed: Tensor, out: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(mixed, out)
        return product(mixed, out, bias).add_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        mixed, out = ctx.saved_tensors
        return grad, torch.mm(grad, out), torch.mm(grad.t(), mixed), grad.sum(0)


class _Raised(torch.autograd.Function):
    """x + relu(n wide^T + b) narrow^T + c, n the norm of x: x (N, H), wide (I, H), narrow (H, I)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, norm_bias: Tensor, wide: Tensor, b: Tensor, narrow: Tensor, c: Tensor, eps: float
    ) -> Tensor:  # fmt: skip
        normed, mean, inverse = torch.native_layer_norm(x, x.shape[1:], norm, norm_bias, eps)
        raised = product(normed, wide, b, relu=True)
        ctx.save_for_backward(x, mean, inverse, norm, norm_bias, normed, raised, wide, narrow)
        return product(raised, narrow, c).add_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, norm, norm_bias, normed, raised, wide, narrow = ctx.saved_tensors
        d_raised = torch.ops.aten.threshold_backward(torch.mm(grad, narrow), raised, 0)
        d_x, *of_norm = _norm_backward(torch.mm(d_raised, wide), x, mean, inverse, norm, norm_bias)
        of_wide = torch.mm(d_raised.t(), normed), d_raised.sum(0)
        return d_x.add_(grad), *of_norm, *of_wide, torch.mm(grad.t(), raised), grad.sum(0), None


_attended: Callable[..., Tensor] = _Attention.apply
_added: Callable[..., Tensor] = _Added.apply
_raised: Callable[..., Tensor] = _Raised.apply
