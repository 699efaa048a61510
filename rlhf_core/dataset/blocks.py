"""Documents as rows of one length: a stream of tokens that is nowhere whole; a row is put together when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf_core.dataset.chat_template import Tokens
from rlhf_core.dataset.token_store import Documents
from rlhf_core.job.errors import BadInput


@dataclass(frozen=True)
class Segments:
    """Parts of documents, in the order in which they are read; the columns may be memory maps.

    row      (n,) int64, the document
    offset   (n,) int64, its first token that is read
    length   (n,) int64, tokens that are read
    ends     (n,) bool, whether an end token follows
    behind   (n,) int64, tokens and ends up to here
    """

    row: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    ends: NDArray[np.bool_]
    behind: NDArray[np.int64]

    @classmethod
    def of(cls, row: NDArray[np.int64], offset: NDArray[np.int64], length: NDArray[np.int64], ends: NDArray[np.bool_]) -> Segments:
        return cls(row, offset, length, ends, (length + ends).cumsum())


class Blocks:
    """An end token and the segments, cut into rows of `width` tokens.

    Rows overlap by one token, so that each token but the very first is predicted once. The tail that fills no row is
    left out. Attention runs across documents inside a row, as in GPT-2 and GPT-3.
    """

    def __init__(self, documents: Documents, segments: Segments, end_id: int, width: int) -> None:
        self._documents, self._segments, self._end_id, self.width = documents, segments, end_id, width
        tokens = 1 + (int(segments.behind[-1]) if len(segments.behind) else 0)
        self._rows = (tokens - 1) // (width - 1)
        if self._rows == 0 and tokens > 1:
            raise BadInput(f"the corpus has {tokens} tokens, fewer than one block of max_length {width}")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, numbers: list[int]) -> Tensor:
        """(rows, width) int64."""
        rows = np.full((len(numbers), self.width), self._end_id, dtype=np.int64)
        for row, number in zip(rows, numbers, strict=True):
            self._fill(row, number * (self.width - 1))
        return torch.from_numpy(rows)

    def _fill(self, row: NDArray[np.int64], first: int) -> None:
        """A row of end tokens gets what else stands in the stream from its place `first` on; place 0 is the first end."""
        segments = self._segments
        at = 1 if first == 0 else 0
        place = first + at - 1
        number = int(segments.behind.searchsorted(place, side="right"))
        while at < len(row):
            length, ends = int(segments.length[number]), bool(segments.ends[number])
            read = place - (int(segments.behind[number]) - length - ends)
            offset = int(segments.offset[number])
            part = self._documents.ids(int(segments.row[number]))[offset + read : offset + length][: len(row) - at]
            row[at : at + len(part)] = part
            at += len(part) + ends
            place, number = int(segments.behind[number]), number + 1


def pack(documents: Documents, end_id: int, width: int, seed: int) -> Blocks:
    """Whole documents in a seeded order, an end token before, between and behind them."""
    order = np.random.default_rng([seed, 0xD0C]).permutation(len(documents))
    whole = Segments.of(order, np.zeros(len(order), np.int64), documents.length[order], np.ones(len(order), np.bool_))
    return Blocks(documents, whole, end_id, width)


@dataclass(frozen=True)
class Windows:
    """Documents as sequences of at most `width` tokens in which every token and the end are predicted once.

    row     (n,) int64, the document of each
    first   (n,) int64, where it begins in the document between two end tokens
    length  (n,) int64
    """

    documents: Documents
    end_id: int
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def tokens(self, number: int) -> Tokens:
        first, end = int(self.first[number]), [self.end_id]
        framed = np.concatenate([end, self.documents.ids(int(self.row[number])), end])
        part: list[int] = framed[first : first + int(self.length[number])].tolist()
        return Tokens(part, [False] + [True] * (len(part) - 1))


def windows(documents: Documents, end_id: int, width: int) -> Windows:
    """The shortest first: little padding."""
    framed = documents.length + 2
    counts = -(-(framed - 1) // (width - 1))
    row = np.arange(len(documents)).repeat(counts)
    first = (np.arange(len(row)) - (counts.cumsum() - counts).repeat(counts)) * (width - 1)
    length = np.minimum(framed[row] - first, width)
    order = length.argsort(kind="stable")
    return Windows(documents, end_id, row[order], first[order], length[order])
