"""How probable tokens are to a causal language model: what pretraining, perplexity and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import TokenBatch, pad_right
from rlhf_core.dataset.chat_template import Tokens
from rlhf_core.models.networks import selected_labels


def nll(policy: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood in nats of every token that counts, row by row: (N,)."""
    select, labels = selected_labels(input_ids, mask)
    logprobs: Tensor = policy(input_ids, select, labels)[0]
    return -logprobs


def row_nats(policy: Any, batch: TokenBatch) -> list[float]:
    """Summed negative log-likelihood of each row, in nats."""
    dense = torch.zeros(batch.input_ids.shape, dtype=torch.float64, device=batch.input_ids.device)
    dense[batch.response_mask] = nll(policy, batch.input_ids, batch.response_mask).double()
    sums: list[float] = dense.sum(dim=1).tolist()
    return sums


@torch.inference_mode()
def nats(
    policy: Any,
    rows: Sequence[Tokens],
    batch_tokens: int,
    device: torch.device,
    done: Callable[[int], None] = lambda rows: None,
) -> list[float]:
    """-ln p of the tokens that count in each row; 0 for a row of one token or none. `done` hears how many rows were scored.

    Rows are batched by length; padding changes nothing, since the model reads from left to right.
    """
    found = [0.0] * len(rows)
    for places in batches([len(row) for row in rows], batch_tokens):
        batch = pad_right([rows[place] for place in places], pad_id=0).to(device)
        for place, total in zip(places, row_nats(policy, batch), strict=True):
            found[place] = total
        done(len(places))
    return found


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows of at least two tokens (the first is only read), longest first, so many at once that with padding they have
    `batch_tokens` at most, or one."""
    order = sorted((row for row, length in enumerate(lengths) if length > 1), key=lambda row: (-lengths[row], row))
    at = 0
    while at < len(order):
        count = max(1, batch_tokens // lengths[order[at]])
        yield order[at : at + count]
        at += count
