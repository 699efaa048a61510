"""In which order a mixture's documents are read: index arithmetic, whatever the number of documents.

A source is one endless stream: epoch after epoch, in each its documents once, in an order of its own. The order is a
bijection on [0, documents) computed index by index: a Feistel network on the next even power of two, walked until it falls
inside (cycle walking; Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", methods 2 and 3). So the k-th
document of a stream of a hundred million is found in microseconds, and nothing is shuffled in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.text import mix

_ROUNDS = 4  # Luby and Rackoff 1988: four rounds of a random function are a strong pseudo-random permutation
_AHEAD = 1024  # documents whose numbers and lengths are fetched together

Indices = NDArray[np.int64]
Lengths = Callable[[Indices], Indices]


def round_keys(seed: int, name: str, epoch: int) -> NDArray[np.uint64]:
    """Keys of the permutation of one source in one epoch, shape (4,)."""
    digest = hashlib.blake2b(f"{seed}\0{name}\0{epoch}".encode(), digest_size=8 * _ROUNDS, person=b"mixture").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def permute(indices: Indices, size: int, keys: NDArray[np.uint64]) -> Indices:
    """Where a permutation of [0, size) sends `indices`; same shape.

    Raises:
        ValueError: an index lies outside [0, size).
    """
    values = np.asarray(indices, dtype=np.int64)
    if len(values) and (values.min() < 0 or values.max() >= size):
        raise ValueError(f"indices must lie in [0, {size})")
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    out = values.astype(np.uint64)
    outside = np.ones(len(out), dtype=np.bool_)
    while outside.any():  # the domain is at most four times `size`: four walks on average, never endless on a cycle
        left, right = out[outside] >> half, out[outside] & mask
        for key in keys:
            left, right = right, left ^ (mix(right + key) & mask)
        out[outside] = (left << half) | right
        outside[outside] = out[outside] >= np.uint64(size)
    return out.astype(np.int64)


def documents_at(positions: Indices, documents: int, seed: int, name: str) -> Indices:
    """The documents at `positions` (from 0) of a source's endless stream."""
    epochs, within = np.divmod(np.asarray(positions, dtype=np.int64), documents)
    out = np.empty(len(within), dtype=np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = permute(within[chosen], documents, round_keys(seed, name, int(epoch)))
    return out


@dataclass(frozen=True)
class Span:
    """`tokens` tokens of one document, from token `start` on, read in phase `phase`."""

    phase: int
    source: str
    document: int
    start: int
    tokens: int


@dataclass
class Position:
    """How far a reading has come; all that a resume needs, and small enough for a checkpoint's JSON."""

    phase: int = 0
    read: dict[str, int] = field(default_factory=dict)  # tokens of this phase by source
    documents: dict[str, int] = field(default_factory=dict)  # documents of each stream that are read whole
    offsets: dict[str, int] = field(default_factory=dict)  # tokens of the next document that are read already

    def as_dict(self) -> dict[str, Any]:
        return {"phase": self.phase, "read": dict(self.read), "documents": dict(self.documents), "offsets": dict(self.offsets)}


class _Stream:
    """The next documents of a source with their lengths, fetched in blocks."""

    def __init__(self, name: str, documents: int, seed: int, lengths: Lengths) -> None:
        self._name, self._documents, self._seed, self._lengths = name, documents, seed, lengths
        self._first, self._block = 0, np.zeros(0, dtype=np.int64)
        self._sizes = np.zeros(0, dtype=np.int64)

    def at(self, position: int) -> tuple[int, int]:
        """(document, its length in tokens) at a position of the stream."""
        if not self._first <= position < self._first + len(self._block):
            self._first = position
            end = min(position + _AHEAD, (position // self._documents + 1) * self._documents)  # within one epoch
            self._block = documents_at(np.arange(position, end), self._documents, self._seed, self._name)
            self._sizes = np.asarray(self._lengths(self._block), dtype=np.int64)
        return int(self._block[position - self._first]), int(self._sizes[position - self._first])


def read(plan: Mapping[str, Any], lengths: Mapping[str, Lengths], position: Position | None = None) -> Iterator[Span]:
    """The spans of a whole reading, to the token what `plan` declares; `position` moves along with it.

    The next document comes from the source that is furthest behind its share, so the shares hold all through a phase
    (Bresenham's line, source by source). A document is cut where its source's tokens of the phase end, and goes on in the
    next phase; documents without a token are passed over. Iteration may stop anywhere: a copy of `position` taken between two spans goes on with the span after.

    Args:
        plan: as `plan.make` returns it.
        lengths: for each source, the lengths in tokens of the documents of given numbers.

    Raises:
        ValueError: no document of a source has a token.
    """
    now = position if position is not None else Position()
    seed = int(plan["seed"])
    streams = {name: _Stream(name, int(source["documents"]), seed, lengths[name]) for name, source in plan["sources"].items()}
    for number in range(now.phase, len(plan["phases"])):
        wanted = {name: tokens for name, tokens in plan["phases"][number]["read"].items() if tokens}
        done, total, empty = sum(now.read.values()), sum(wanted.values()), 0
        while done < total:
            # The share of its phase that a source has given; ties go to the first name.
            name = min(
                (name for name in wanted if now.read.get(name, 0) < wanted[name]),
                key=lambda name: (now.read.get(name, 0) / wanted[name], name),
            )
            at, offset = now.documents.get(name, 0), now.offsets.get(name, 0)
            document, size = streams[name].at(at)
            tokens = min(size - offset, wanted[name] - now.read.get(name, 0))
            if offset + tokens >= size:
                now.documents[name], now.offsets[name] = at + 1, 0
            else:
                now.offsets[name] = offset + tokens
            if tokens <= 0:
                empty += 1
                if empty > 2 * int(plan["sources"][name]["documents"]):
                    raise ValueError(f"no document of source {name} has a token")
                continue
            empty = 0
            now.read[name] = now.read.get(name, 0) + tokens
            done += tokens
            yield Span(number, name, document, offset, tokens)
        now.phase, now.read = number + 1, {}
