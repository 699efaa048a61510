"""Small fastText classifiers with weights drawn at random, in the bytes of fastText's own format (0.9.2, src/fasttext.cc)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HIERARCHICAL_SOFTMAX, NEGATIVE_SAMPLING, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4
WORDS = ["</s>", "the", "of", "天", "naïve", "a", "Straße", "</a"]


@dataclass(frozen=True)
class Shape:
    """What a model file is made of; `kept`: buckets that a pruned model has rows of."""

    loss: int = SOFTMAX
    columns: int = 5
    labels: int = 6
    words: Sequence[str] = tuple(WORDS)
    word_ngrams: int = 1
    buckets: int = 40
    shortest: int = 2
    longest: int = 4
    kept: Sequence[int] | None = None
    quantised: bool = False
    quantised_output: bool = False
    norms: bool = True
    width: int = 2
    seed: int = 0


def model_file(shape: Shape) -> bytes:
    random = np.random.default_rng(shape.seed)
    head = struct.pack("<ii", 793712314, 12)
    head += struct.pack("<12i", shape.columns, 5, 5, 1, 5, shape.word_ngrams, shape.loss, 3, shape.buckets, shape.shortest, shape.longest, 100)
    head += struct.pack("<d", 1e-4)
    size = len(shape.words) + shape.labels
    head += struct.pack("<iiiqq", size, len(shape.words), shape.labels, 1000, -1 if shape.kept is None else len(shape.kept))
    counts = np.sort(random.integers(1, 1000, shape.labels))[::-1].tolist()  # fastText sorts labels by them
    for word in shape.words:
        head += word.encode() + b"\0" + struct.pack("<qb", 9, 0)
    for number, count in enumerate(counts):
        head += f"__label__l{number}".encode() + b"\0" + struct.pack("<qb", count, 1)
    for row, bucket in enumerate(shape.kept or ()):
        head += struct.pack("<ii", bucket, row)
    rows = len(shape.words) + (shape.buckets if shape.kept is None else len(shape.kept))
    head += struct.pack("<?", shape.quantised) + _matrix(rows, shape, shape.quantised, random)
    return head + struct.pack("<?", shape.quantised_output) + _matrix(shape.labels, shape, shape.quantised_output, random)


def _matrix(rows: int, shape: Shape, quantised: bool, random: np.random.Generator) -> bytes:
    columns = shape.columns
    if not quantised:
        return struct.pack("<qq", rows, columns) + random.normal(0, 1, rows * columns).astype("<f4").tobytes()
    parts = -(-columns // shape.width)
    last = columns - (parts - 1) * shape.width
    found = struct.pack("<?qqi", shape.norms, rows, columns, rows * parts) + random.integers(0, 256, rows * parts, dtype=np.uint8).tobytes()
    found += struct.pack("<4i", columns, parts, shape.width, last) + random.normal(0, 1, columns * 256).astype("<f4").tobytes()
    if shape.norms:
        found += random.integers(0, 256, rows, dtype=np.uint8).tobytes()
        found += struct.pack("<4i", 1, 1, 1, 1) + random.normal(1, 0.3, 256).astype("<f4").tobytes()
    return found
