"""Synthetic documents with planted near copies, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.document import DOCUMENT_SCHEMA
from data.shards import shard_name, write_shard

CHANGES = (0.0, 0.01, 0.03)  # shares of words changed in the planted copies
_VOCABULARY = 30_000
_SHARD = 5000


def documents(count: int, words: int = 300, seed: int = 1) -> Iterator[str]:
    """`count` texts: of each five, two are originals without a copy and three an original with a copy of it between.

    Words follow Zipf's law over 30,000; lengths are spread around `words`. A copy has one of CHANGES of its words
    replaced, in turn.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    ranks = np.arange(1, _VOCABULARY + 1)
    heights = np.cumsum(1 / (ranks + 2.7))
    vocabulary = np.array([_word(number) for number in ranks])
    original = np.zeros(0, np.int64)
    for at in range(count):
        if at % 5 < 4:
            length = max(30, int(random.lognormal(np.log(words), 0.5)))
            original = _draw(random, heights, length)
            text = original
        else:
            share = CHANGES[(at // 5) % len(CHANGES)]
            text = original.copy()
            changed = np.flatnonzero(random.random(len(text)) < share)
            text[changed] = _draw(random, heights, len(changed))
        yield " ".join(vocabulary[text].tolist())


def _draw(random: np.random.Generator, heights: np.ndarray, count: int) -> np.ndarray:
    return np.searchsorted(heights, random.random(count) * heights[-1])


def _word(number: int) -> str:
    """A pronounceable word of its own for every number."""
    letters = []
    while True:
        number, place = divmod(number, 95)
        letters.append("bdfghklmnprstvwzcjx"[place % 19] + "aeiou"[place // 19])
        if not number:
            return "".join(letters)


def write_documents(folder: Path, texts: Iterator[str], shard_rows: int = _SHARD) -> list[Path]:
    """Shards of documents whose id is their number, in `folder`; texts are never all in memory."""
    shards: list[Path] = []
    rows: list[dict[str, str | None]] = []

    def flush() -> None:
        shards.append(folder / shard_name(len(shards)))
        write_shard(shards[-1], pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
        rows.clear()

    for number, text in enumerate(texts):
        rows.append({"id": f"{number:032x}", "url": None, "date": None, "source": f"synthetic#{number}", "lang": None, "text": text})
        if len(rows) == shard_rows:
            flush()
    if rows:
        flush()
    return shards
