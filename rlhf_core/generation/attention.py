"""Causal attention of small models on CPUs, forwards and backwards written out: what Llamas and OPTs have in common.

Everything inside is float32, in bf16 models too: there the products of so small matrices are no faster, the softmax takes twice
as long, and torch compiles a kernel of a millisecond for every length it meets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_core.generation.packing import Packing, pack, steady

Kept = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Shape:
    """What an attention must know of its batch and model. Places are those of the flattened rows, B L in all.

    first     the column of the first query
    later     (groups (length - first), length), -inf where a query must not look. The queries of a group stand in for longer
              sequences: they attend to the same keys.
    rotation  (length, D / 2) complex64, e^(i position frequency), that turns interleaved queries and keys; None: nothing does
    packing   without which states of all places are given
    wanted    (M,) int64, the queries that are answered, as places of the flattened rows from column `first` on; None: all
    """

    rows: int
    length: int
    heads: int
    kv_heads: int
    size: int
    first: int
    later: Tensor
    rotation: Tensor | None
    packing: Packing | None
    wanted: Tensor | None

    @property
    def queries(self) -> tuple[int, int, int, int]:
        return self.rows, self.length - self.first, self.heads, self.size


def later_than(length: int, first: int, groups: int) -> Tensor:
    """`Shape.later`."""
    return torch.full((length, length), float("-inf")).triu(1)[first:].repeat(groups, 1)


def attend(states: Tensor, shape: Shape) -> tuple[Tensor, Kept]:
    """states (N, (heads + 2 kv heads) D), queries, keys and values of every place (or of those that packing computes) ->
    (mixed (M, heads D), (q, k, v, weights)): the latter float32 by head, q scaled, k and v (B kv heads, L, D)."""
    if shape.packing:
        states = shape.packing.spread(states)
    query, key, value = _apart(states, shape)
    scaling = shape.size**-0.5
    if shape.rotation is None:
        q, k = _by_head(query, shape).mul_(scaling), _by_head(key, shape)
    else:
        q, k = _turned(query, shape.rotation[shape.first :] * scaling, shape), _turned(key, shape.rotation, shape)
    v = _by_head(value, shape)
    weights = torch.baddbmm(shape.later, q, k.transpose(1, 2)).softmax(dim=-1)
    mixed = states.new_empty(shape.queries)
    _write(torch.bmm(weights, v), mixed)
    mixed = mixed.view(-1, shape.heads * shape.size)
    return mixed if shape.wanted is None else mixed.index_select(0, shape.wanted), (q, k, v, weights)


def attend_backward(grad: Tensor, kept: Kept, shape: Shape) -> Tensor:
    """The gradient of `attend`'s states from that of what it mixed: (M, heads D) -> (N, (heads + 2 kv heads) D)."""
    q, k, v, weights = kept
    rows, columns, *_ = shape.queries
    if shape.wanted is not None:
        # the sum, since bf16 passes ask for some places twice (`packing.steady`)
        grad = grad.new_zeros(rows * columns, grad.shape[1]).index_add_(0, shape.wanted, grad)
    out = _by_head(grad.view(shape.queries), shape)
    d_weights = torch.bmm(out, v.transpose(1, 2))
    d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
    states = grad.new_empty(rows * shape.length, (shape.heads + 2 * shape.kv_heads) * shape.size)
    if shape.first:
        states.view(rows, shape.length, -1)[:, : shape.first, : shape.heads * shape.size] = 0
    d_query, d_key, d_value = _apart(states, shape)
    by_query, by_key = torch.bmm(d_scores, k), torch.bmm(d_scores.transpose(1, 2), q)
    scaling = shape.size**-0.5
    if shape.rotation is None:
        _write(by_query.mul_(scaling), d_query)
        _write(by_key, d_key)
    else:
        back = shape.rotation.conj().resolve_conj()
        _turn_back(by_query, back[shape.first :] * scaling, d_query)
        _turn_back(by_key, back, d_key)
    _write(torch.bmm(weights.transpose(1, 2), out), d_value)
    # queries that were not computed were not listened to: their part is 0
    return shape.packing.gather_sum(states) if shape.packing else states


def _apart(states: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """(B L, (heads + 2 kv heads) D) -> views (B, L, heads, D) of queries (those from `first` on), keys and values."""
    whole = states.view(shape.rows, shape.length, -1, shape.size)
    query, key, value = torch.split_with_sizes(whole, [shape.heads, shape.kv_heads, shape.kv_heads], dim=2)
    return query[:, shape.first :], key, value


def _by_head(x: Tensor, shape: Shape) -> Tensor:
    """(B, L, heads, D) -> (B kv heads, groups L, D) float32, a copy."""
    rows, length, heads, size = x.shape
    copy = torch.empty(rows, heads, length, size, device=x.device)
    return copy.copy_(x.transpose(1, 2)).view(rows * shape.kv_heads, -1, size)


def _write(x: Tensor, into: Tensor) -> None:
    """By head, as (B kv heads, groups L, D), into (B, L, heads, D)."""
    rows, length, heads, size = into.shape
    into.copy_(x.view(rows, heads, length, size).transpose(1, 2))


def _turned(x: Tensor, rotation: Tensor, shape: Shape) -> Tensor:
    """`_by_head`, rotated on the way."""
    pairs = _pairs(x).transpose(1, 2)
    turned = torch.empty(pairs.shape, dtype=pairs.dtype, device=x.device)
    torch.mul(pairs, rotation, out=turned)
    return torch.view_as_real(turned).view(shape.rows * shape.kv_heads, -1, shape.size)


def _turn_back(x: Tensor, rotation: Tensor, into: Tensor) -> None:
    """`_write`, rotated on the way."""
    rows, length, heads, size = into.shape
    by_head = _pairs(x.view(rows, heads, length, size))
    torch.mul(by_head.transpose(1, 2), rotation.unsqueeze(1), out=_pairs(into))


def _pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D / 2) complex."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


@dataclass(frozen=True)
class Reading:
    """How right-padded rows (B, L) are read; N places of theirs are computed, each of which stands for itself or for several.

    tokens   (N,) int64
    columns  (N,) int64, 0, 1, 2, ... in each row
    inner    the attention of every block but the last
    last     that of the last one, which answers the M places that are asked for alone
    places   (M,) int64, where these are among the N; in bf16 some of them again (`packing.steady`)
    asked    how many are asked for
    """

    tokens: Tensor
    columns: Tensor
    inner: Shape
    last: Shape
    places: Tensor
    asked: int


def reading(
    input_ids: Tensor, select: Tensor, heads: tuple[int, int, int], dtype: torch.dtype, rotation: Tensor | None = None
) -> Reading:
    """input_ids (B, L) right-padded, select (B, L) bool, the places that are asked for; heads: query heads, kv heads, size."""
    rows, length = input_ids.shape
    packing = None if dtype == torch.bfloat16 else pack(input_ids, select)
    columns = torch.arange(length).repeat(rows)
    tokens, places = input_ids.reshape(-1), _places(select)
    asked, first = len(places), int(select.any(0).int().argmax())
    wanted = _places(select[:, first:])
    if packing:
        tokens, columns, places = tokens[packing.fresh], columns[packing.fresh], packing.found[places]
    if dtype == torch.bfloat16:
        places, wanted = steady(places), steady(wanted)
    groups = heads[0] // heads[1]
    fresh = packing.fresh if packing else None
    inner = Shape(rows, length, *heads, 0, later_than(length, 0, groups), rotation, packing, fresh)
    last = Shape(rows, length, *heads, first, later_than(length, first, groups), rotation, packing, wanted)
    return Reading(tokens, columns, inner, last, places, asked)


def _places(mask: Tensor) -> Tensor:
    return mask.reshape(-1).nonzero().squeeze(1)
