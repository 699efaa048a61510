"""Batches with the meaning of every field, and the order in which examples come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rlhf_core.dataset.chat_template import Tokens

Item = TypeVar("Item")


@dataclass(frozen=True)
class TokenBatch:
    """Whole sequences, padded on the right. Under causal attention real tokens never see the padding, so no
    attention mask is needed and positions are 0, 1, 2, ...

    input_ids      (B, L) int64
    response_mask  (B, L) bool, True = this token counts in the loss
    lengths        (B,)   int64, real tokens of each row
    """

    input_ids: Tensor
    response_mask: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> TokenBatch:
        return TokenBatch(self.input_ids.to(device), self.response_mask.to(device), self.lengths.to(device))

    def rows(self, selection: slice) -> TokenBatch:
        """Some rows, without the columns that are padding in all of them."""
        lengths = self.lengths[selection]
        width = int(lengths.max()) if len(lengths) else 1
        return TokenBatch(self.input_ids[selection, :width], self.response_mask[selection, :width], lengths)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to be continued, padded on the left, so that the next token of every row is in the same column.

    input_ids       (B, P) int64
    attention_mask  (B, P) bool, True = real token
    position_ids    (B, P) int64, 0 at each row's first real token (0 on padding too, where it is never seen)
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor

    def to(self, device: torch.device) -> PromptBatch:
        return PromptBatch(self.input_ids.to(device), self.attention_mask.to(device), self.position_ids.to(device))


def pad_right(examples: list[Tokens], pad_id: int) -> TokenBatch:
    """Rows in the given order; at least one column. Without examples one row in which nothing counts: a rank that has none left
    still runs the model, or the others would wait for it."""
    examples = examples or [Tokens([pad_id], [False])]
    lengths = [len(example) for example in examples]
    width = max([1, *lengths])
    ids = np.full((len(examples), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=np.bool_)
    for row, example in enumerate(examples):
        ids[row, : lengths[row]] = example.ids
        mask[row, : lengths[row]] = example.mask
    return TokenBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.tensor(lengths, dtype=torch.int64))


def pad_left(prompts: list[list[int]], pad_id: int) -> PromptBatch:
    """Rows in the given order; prompts must not be empty."""
    width = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.bool_)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = True
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    return PromptBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(positions))


class Order:
    """An endless order of `size` examples: one seeded permutation after the other. It has no state: the batch of a
    step is known from the step alone, so a resumed run goes on where it was, on any number of ranks.

    With `lengths`, examples are sorted by length within every GROUP batches and the batches shuffled again, so that a
    batch holds examples of about one length (as in Vaswani et al. 2017, section 5.1) and still another one each epoch.
    """

    GROUP = 50

    def __init__(self, size: int, batch_size: int, seed: int, lengths: list[int] | None = None) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._lengths = np.asarray(lengths) if lengths is not None else None
        self._cached: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of `step` (the first is 1), over all ranks."""
        first = (step - 1) * self.batch_size
        return [self._at(position) for position in range(first, first + self.batch_size)]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        return int(self._permutation(epoch)[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._cached:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(self.size)
            self._cached = {old: kept for old, kept in self._cached.items() if old == epoch - 1}
            self._cached[epoch] = order if self._lengths is None else self._grouped(order, rng)
        return self._cached[epoch]

    def _grouped(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        assert self._lengths is not None
        reach = self.GROUP * self.batch_size
        parts = [order[start : start + reach] for start in range(0, self.size, reach)]
        by_length = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts])
        whole = self.size // self.batch_size * self.batch_size  # the last batch may be smaller: it stays last
        batches = by_length[:whole].reshape(-1, self.batch_size)
        return np.concatenate([batches[rng.permutation(len(batches))].reshape(-1), by_length[whole:]])


@dataclass(frozen=True)
class InOrder:
    """Examples as they lie: a staged mixture is already in the order in which it is to be read.

    `reads` of them are read in all, over and over where that is more than `size`; the last batch may be smaller.
    """

    size: int
    batch_size: int
    reads: int

    @property
    def steps(self) -> int:
        return -(-self.reads // self.batch_size)

    def batch(self, step: int) -> list[int]:
        first = (step - 1) * self.batch_size
        return [position % self.size for position in range(first, min(first + self.batch_size, self.reads))]


def total_steps(size: int, batch_size: int, epochs: float | None, steps: int | None) -> int:
    """Optimizer steps of a stage: `steps` where given, else `epochs` passes, at least one step."""
    if steps is not None:
        return steps
    return max(1, round((epochs if epochs is not None else 1.0) * size / batch_size))


def share(indices: list[int], rank: int, ranks: int) -> list[int]:
    """One rank's part of a batch: every ranks-th index, so that parts differ by one at most."""
    return indices[rank::ranks]


def dealt(items: Sequence[Item], rows: int, rank: int, ranks: int) -> Iterator[tuple[Sequence[Item], bool]]:
    """One rank's part of what is only measured, `rows` items at a time, in as many passes on every rank: under ZeRO-3 they
    wait for each other. A rank that has no more gets the last ones again, with False: they do not count."""
    batches = [items[i : i + rows] for i in range(0, len(items), rows)]
    for first in range(0, len(batches), ranks):
        place = first + rank
        yield batches[min(place, len(batches) - 1)], place < len(batches)


def micro_slices(rows: int, micro_batch_size: int, count: int) -> list[slice]:
    """`count` slices over `rows` rows, the last ones possibly empty, so that every rank takes as many passes."""
    return [
        slice(min(i * micro_batch_size, rows), min((i + 1) * micro_batch_size, rows)) for i in range(count)
    ]
