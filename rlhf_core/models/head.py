"""Log-probabilities and entropies of tokens straight from hidden states, some rows of logits at a time.

The logits of a small model are its largest tensors: here they live in the processor's cache between the product that makes
them and the sums over them. Kept for the way back is their exponential alone. Given logits, `rlhf_core.losses` has the
same function, to which the tests hold this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELLS = 1 << 18  # logits at a time: a megabyte, half of a core's second cache
_LEAST = 128  # rows at a time; with fewer, products would read the weight more often than it pays


def serves(head: nn.Module) -> bool:
    """Whether `token_likelihood` computes this head: a plain product, its weight whole, in float32."""
    weight: Any = getattr(head, "weight", None)
    return (
        type(head) is nn.Linear and head.bias is None and weight.dtype == torch.float32 and not hasattr(weight, "ds_id")
    )


def token_likelihood(hidden: Tensor, weight: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """log p(label) and entropy, in nats, of softmax(hidden weight^T / temperature): (N,) float32 each.

    hidden (N, H), weight (V, H), labels (N,) int64. Both have gradients.
    """
    return _token_likelihood(hidden, weight, labels, temperature)


class _TokenLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        count, words = len(hidden), len(weight)
        learns = any(ctx.needs_input_grad[:2])
        logprobs, entropies, totals = hidden.new_empty(3, count)
        logits, other = (hidden.new_empty(min(_rows(words), count), words) for _ in range(2))
        kept = hidden.new_empty(count, words) if learns else None
        for part in _parts(count, words):
            size = part.stop - part.start
            low = torch.mm(hidden[part], weight.t(), out=logits[:size])
            if temperature != 1.0:
                low.div_(temperature)
            low.sub_(low.amax(1, keepdim=True))
            powers = torch.exp(low, out=other[:size] if kept is None else kept[part])
            torch.sum(powers, 1, out=totals[part])
            logprobs[part] = low.gather(1, labels[part].unsqueeze(1)).squeeze(1)
            torch.sum(low.mul_(powers), 1, out=entropies[part])
        logs = totals.log()
        entropies = logs - entropies.div_(totals)
        if kept is not None:
            ctx.save_for_backward(hidden, weight, labels, kept, totals, entropies)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logprobs.sub_(logs), entropies

    @staticmethod
    def backward(ctx: Any, by_logprob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """With p = powers / total: d log p(label) = onehot - p, dH = -p log p - p H."""
        hidden, weight, labels, kept, totals, entropies = ctx.saved_tensors
        count, words = kept.shape
        d_hidden = torch.empty_like(hidden)
        d_weight = weight.new_zeros(hidden.shape[1], words)
        buffer = hidden.new_empty(min(_rows(words), count), words)
        inverse = 1.0 / ctx.temperature
        of_label = None if by_logprob is None else (by_logprob * inverse).unsqueeze(1)
        of_entropy = None if by_entropy is None else (by_entropy * inverse).unsqueeze(1)
        of_all = torch.zeros_like(totals).unsqueeze(1)
        if of_label is not None:
            of_all -= of_label
        if of_entropy is not None:
            of_all.addcmul_(of_entropy, entropies.unsqueeze(1), value=-1)
        of_all /= totals.unsqueeze(1)
        for part in _parts(count, words):
            d_logits = torch.mul(kept[part], of_all[part], out=buffer[: part.stop - part.start])
            if of_entropy is not None:
                p = kept[part] / totals[part].unsqueeze(1)
                d_logits.addcmul_(torch.special.entr(p), of_entropy[part])
            if of_label is not None:
                d_logits.scatter_add_(1, labels[part].unsqueeze(1), of_label[part])
            torch.mm(d_logits, weight, out=d_hidden[part])
            d_weight.addmm_(hidden[part].t(), d_logits)  # transposed: the faster product, as in generation/llama.py
        return d_hidden, d_weight.t(), None, None


def project(layer: nn.Module, hidden: Tensor) -> Any:
    """layer(hidden) for hidden states (N, H). On CPUs torch keeps half a megabyte for every new shape of a bf16 product, 3 MB an
    iteration of PPO: there N is rounded up."""
    count = len(hidden)
    if hidden.dtype != torch.bfloat16 or hidden.device.type != "cpu":
        return layer(hidden)
    return layer(F.pad(hidden, (0, 0, 0, -count % _SHAPES)))[:count]


_SHAPES = 64


def _rows(words: int) -> int:
    return max(_LEAST, _CELLS // words)


def _parts(count: int, words: int) -> list[slice]:
    step = _rows(words)
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


_token_likelihood: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]] = _TokenLikelihood.apply
