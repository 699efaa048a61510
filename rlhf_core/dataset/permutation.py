"""An order of any number of documents by index arithmetic: nothing is shuffled in memory.

A bijection on [0, documents) computed index by index: a Feistel network on the next even power of two, walked until it falls
inside (cycle walking; Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", methods 2 and 3).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4  # Luby and Rackoff 1988: four rounds of a random function are a strong pseudo-random permutation


def round_keys(seed: int, name: str, epoch: int) -> NDArray[np.uint64]:
    """Keys of the permutation of one source in one epoch, shape (4,)."""
    digest = hashlib.blake2b(f"{seed}\0{name}\0{epoch}".encode(), digest_size=8 * _ROUNDS, person=b"mixture").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def permute(indices: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a permutation of [0, size) sends `indices`; same shape.

    Raises:
        ValueError: an index lies outside [0, size).
    """
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"indices must lie in [0, {size})")
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    out = indices.astype(np.uint64)
    outside = np.ones(len(out), dtype=np.bool_)
    while outside.any():  # the domain is at most four times `size`: four walks on average, never endless on a cycle
        left, right = out[outside] >> half, out[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        out[outside] = (left << half) | right
        outside[outside] = out[outside] >= np.uint64(size)
    return out.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele et al. 2014): every input bit reaches every output bit."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
