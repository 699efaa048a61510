"""Many texts scanned at once: one array of code points, on which every measure is a few passes of numpy.

A call of numpy costs a microsecond and an element a nanosecond: a text of a few thousand characters measured alone
pays as much for the calls as for its characters. Texts are joined by line ends, so that no word, line or sentence
reaches from one into the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.text import (
    OTHER,
    SPACE,
    UNSPACED,
    Hashes,
    classify,
    code_points,
    hash_between,
    prefix_sums,
    word_bounds,
)

_CHARACTERS = 1 << 17  # of one batch, about: its arrays stay in the processor's cache
_FEW = 256  # characters of a text beside which a call of numpy does not count
_NEWLINE = ord("\n")

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Spans:
    """Stretches [start, end) of a batch's characters, in order; `text` is the number of the text each lies in."""

    starts: Positions
    ends: Positions
    text: Positions

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def lengths(self) -> Positions:
        return self.ends - self.starts


class TextBatch:
    """Code points of `texts` with their classes (see data.text), words, lines and paragraphs."""

    def __init__(self, texts: Sequence[str]) -> None:
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        self.starts: Positions = np.cumsum(sizes + 1) - sizes - 1
        self.ends: Positions = self.starts + sizes
        # The line end before each next text, and one after the last.
        self.codes = code_points("\n".join(texts) + "\n")
        self.classes = classify(self.codes)

    def __len__(self) -> int:
        return len(self.starts)

    def text_of(self, positions: Positions) -> Positions:
        """Number of the text at each position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def count(self, mask: Mask) -> Positions:
        """How many characters of each text `mask` names, shape (texts,)."""
        if len(self) * _FEW < len(mask):  # places are dear where many hold
            spans = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
            return np.fromiter((np.count_nonzero(mask[start:end]) for start, end in spans), np.int64, len(self))
        return self.count_at(np.flatnonzero(mask))

    def count_at(self, positions: Positions) -> Positions:
        """How many of the sorted `positions` lie in each text, shape (texts,)."""
        return np.searchsorted(positions, self.ends) - np.searchsorted(positions, self.starts)

    def at(self, positions: Positions) -> NDArray[np.uint32]:
        """Code points at `positions`; outside the batch there are line ends."""
        outside = (positions < 0) | (positions >= len(self.codes))
        if not outside.any():
            return self.codes[positions]
        return np.where(outside, np.uint32(_NEWLINE), self.codes[np.where(outside, 0, positions)])

    @cached_property
    def shown(self) -> Mask:
        return self.classes != SPACE

    @cached_property
    def others(self) -> Positions:
        """Where neither a letter nor white space stands: punctuation and symbols, one character in twenty."""
        return np.flatnonzero(self.classes == OTHER)

    @cached_property
    def other_codes(self) -> NDArray[np.uint32]:
        return self.codes[self.others]

    def find(self, character: str) -> Positions:
        """Where `character`, one of `others`, stands."""
        return self.others[self.other_codes == ord(character)]

    @cached_property
    def unspaced(self) -> Mask:
        return self.classes == UNSPACED

    @cached_property
    def newlines(self) -> Positions:
        """Where lines end, the end of each text included."""
        return np.flatnonzero(self.codes == _NEWLINE)

    @cached_property
    def words(self) -> Spans:
        starts, ends = word_bounds(self.classes)
        return Spans(starts, ends, self.text_of(starts))

    @cached_property
    def word_hashes(self) -> Hashes:
        return self.hash(self.words)

    @cached_property
    def pieces(self) -> Spans:
        """Stretches without white space."""
        return self.runs(self.shown)

    def find_runs(self, positions: Positions) -> Spans:
        """Stretches of neighbouring `positions`, which are sorted."""
        new = np.flatnonzero(np.diff(positions) > 1) + 1
        first = np.concatenate([np.zeros(min(len(positions), 1), np.int64), new])
        starts, ends = positions[first], positions[np.append(new, len(positions))[: len(first)] - 1] + 1
        return Spans(starts, ends, self.text_of(starts))

    def runs(self, mask: Mask) -> Spans:
        """Stretches in which `mask` holds; it holds at no line end that ends a text."""
        edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
        if len(mask) and mask[0]:
            edges = np.concatenate([np.zeros(1, np.int64), edges])
        starts, ends = edges[::2], edges[1::2]
        return Spans(starts, ends, self.text_of(starts))

    @cached_property
    def lines(self) -> Spans:
        """Lines that are not blank, trimmed."""
        return self._lines[0]

    @cached_property
    def paragraphs(self) -> Spans:
        """Lines without a blank one between them."""
        lines, number = self._lines
        if not len(lines):
            return lines
        new = np.ones(len(lines), dtype=np.bool_)
        new[1:] = (np.diff(number) > 1) | (np.diff(lines.text) > 0)
        first = np.flatnonzero(new)
        last = np.append(first[1:], len(lines)) - 1
        return Spans(lines.starts[first], lines.ends[last], lines.text[first])

    @cached_property
    def _lines(self) -> tuple[Spans, Positions]:
        """Trimmed lines and the number of each among all lines."""
        pieces = self.pieces
        number = np.searchsorted(self.newlines, pieces.starts)
        new = np.ones(len(number), dtype=np.bool_)
        new[1:] = number[1:] != number[:-1]
        first = np.flatnonzero(new)
        last = np.append(first[1:], len(number))[: len(first)] - 1
        return Spans(pieces.starts[first], pieces.ends[last], pieces.text[first]), number[first]

    def hash(self, spans: Spans) -> Hashes:
        """A hash of each span's characters."""
        return hash_between(self._sums, spans.starts, spans.ends)

    @cached_property
    def _sums(self) -> Hashes:
        return prefix_sums(self.codes)


def batches(texts: Sequence[str], characters: int = _CHARACTERS) -> Iterator[Sequence[str]]:
    """`texts` in order, in groups of about so many characters; a longer text is a group of its own."""
    start = size = 0
    for at, text in enumerate(texts):
        if at > start and size + len(text) > characters:
            yield texts[start:at]
            start, size = at, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def keys_within(text: Positions, hashes: Hashes) -> Hashes:
    """Keys that are equal where text and hash are: the text's number in the upper 16 bits, 48 bits of the hash below.

    Sorted, they stand text by text. Texts must be fewer than 65,536.
    """
    return (text.astype(np.uint64) << np.uint64(48)) | (hashes >> np.uint64(16))
