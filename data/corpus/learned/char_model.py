"""A character n-gram language model: interpolated Witten-Bell smoothing in hash tables, trained in numpy.

p(c | h) = (count(hc) + T(h) p(c | h')) / (N(h) + T(h)), with N(h) how often the context h was seen, T(h) by how many
different characters it was followed, h' the context without its first character, and below the unigrams a uniform
distribution over CHARACTERS (Witten and Bell 1991; Chen and Goodman 1999, 2.5). Every seen n-gram's probability and
every context's weight T/(N+T) are worked out at training; asking is one table look-up per character and order, in data/kernels/char_model.c.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import kernels
from data.character_tables import spaced_forms
from data.text import Hashes, Text, ngram_hashes, unspaced_share

VERSION = 1
CHARACTERS = 20_000  # an unseen character costs log2 of this, beyond the weight of being unseen
_PROBES = 4  # slots that an n-gram may lie in; data/kernels/char_model.c looks through as many
_SLOT = np.dtype([("key", "u8"), ("probability", "f4"), ("weight", "f4")])  # key 0: empty; weight: as a context
_SAMPLE = 1 << 18  # characters of a trusted text that say whether it is unspaced

_Table = NDArray[np.void]  # n-grams of one size in an open hash table, shape (2^bits,) of _SLOT


def characters(text: str, unspaced: bool) -> Hashes:
    """`text` as the model reads it, one hash per character: NFKC, lower case, white space folded; a number is one
    character, an address (web, e-mail) is one, and in unspaced scripts so is a foreign word.
    """
    return np.frombuffer(kernels.symbols(text, spaced_forms(), unspaced), np.uint64)


def _build(keys: Hashes, probability: NDArray[np.float32], weight: NDArray[np.float32]) -> _Table:
    grams = np.empty(len(keys), _SLOT)
    grams["key"], grams["probability"], grams["weight"] = keys, probability, weight
    bits = max(4, (len(keys) * 3).bit_length())
    while (table := _place(grams, bits)) is None:
        bits += 1
    return table


def _place(grams: _Table, bits: int) -> _Table | None:
    size = 1 << bits
    table = np.zeros(size, _SLOT)
    waiting = np.arange(len(grams))
    for probe in range(_PROBES):
        slots = ((grams["key"][waiting] + np.uint64(probe)) & np.uint64(size - 1)).astype(np.int64)
        free = table["key"][slots] == 0
        chosen, first = np.unique(slots[free], return_index=True)
        placed = waiting[free][first]
        table[chosen] = grams[placed]
        waiting = np.setdiff1d(waiting, placed, assume_unique=True)
        if not len(waiting):
            return table
    return None


class CharModel:
    """Character n-gram model of one language."""

    def __init__(self, tables: list[_Table], unseen: float, unspaced: bool, facts: dict[str, Any]) -> None:
        self.facts = facts  # of the training: order, characters, n-grams
        self._tables = tables
        self._unseen = unseen  # weight of the uniform distribution below the unigrams
        self._unspaced = unspaced

    @staticmethod
    def train(text: str, order: int) -> CharModel:
        """A model of `text`. Raises ValueError where it is shorter than `order` characters."""
        unspaced = unspaced_share(text[:_SAMPLE]) > 0.5
        symbols = characters(text, unspaced)
        if len(symbols) <= order:
            raise ValueError(f"a trusted text of {len(symbols)} characters is too short to learn from")
        keys: list[Hashes] = []
        probabilities: list[NDArray[np.float64]] = []
        weights: list[NDArray[np.float64]] = []
        unseen = 0.0
        for size in range(1, order + 1):
            grams = _grams(symbols, size)
            found, first, counts = np.unique(grams, return_index=True, return_counts=True)
            if size == 1:
                total, types = float(len(grams)), float(len(found))
                unseen = types / (total + types)
                probability = (counts + types / CHARACTERS) / (total + types)
            else:
                context_keys = keys[-1]
                context = np.searchsorted(context_keys, _grams(symbols, size - 1)[first])
                suffix = np.searchsorted(context_keys, _grams(symbols, size - 1)[first + 1])
                seen = np.bincount(context, weights=counts, minlength=len(context_keys))
                types_of = np.bincount(context, minlength=len(context_keys)).astype(np.float64)
                weights.append(np.where(seen > 0, types_of / np.maximum(seen + types_of, 1), 1.0))
                lower: NDArray[np.float64] = probabilities[-1][suffix]
                probability = (counts + types_of[context] * lower) / (seen[context] + types_of[context])
            keys.append(found)
            probabilities.append(np.asarray(probability, dtype=np.float64))
        weights.append(np.ones(len(keys[-1])))
        tables = [
            _build(key, probability.astype(np.float32), weight.astype(np.float32))
            for key, probability, weight in zip(keys, probabilities, weights, strict=True)
        ]
        facts = {"order": order, "characters": len(symbols), "ngrams": sum(map(len, keys))}
        return CharModel(tables, unseen, unspaced, facts)

    def bits(self, text: Text, most: int = sys.maxsize) -> float:
        """Mean bits per character of the first `most` of `text`: -log2 of their probability over their number; 0.0 for an empty text."""
        total, count = kernels.char_model_bits(text, most, spaced_forms(), self._unspaced, self._unseen / CHARACTERS, self._tables)
        return total / count if count else 0.0

    def save(self, path: Path) -> None:
        """One .npz file of the seen n-grams (no empty slots)."""
        about = json.dumps({"version": VERSION, "facts": self.facts}).encode()
        arrays: dict[str, NDArray] = {"about": np.frombuffer(about, np.uint8)}
        arrays |= {"unseen": np.array(self._unseen), "unspaced": np.array(self._unspaced)}
        for size, table in enumerate(self._tables, 1):
            used = table[table["key"] != 0]
            for name, field in (("keys", "key"), ("probability", "probability"), ("weight", "weight")):
                arrays[f"{name}_{size}"] = np.ascontiguousarray(used[field])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @staticmethod
    def load(path: Path) -> CharModel:
        """Raises ValueError where `path` is no such model, or one of another version."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return CharModel._of(dict(arrays))
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a character model of this version ({error}); train it again") from None

    @staticmethod
    def _of(arrays: dict[str, NDArray]) -> CharModel:
        about = json.loads(arrays["about"].tobytes())
        if about["version"] != VERSION:
            raise ValueError(f"version {about['version']}")
        orders = sum(name.startswith("keys_") for name in arrays)
        tables = [
            _build(arrays[f"keys_{n}"], arrays[f"probability_{n}"], arrays[f"weight_{n}"]) for n in range(1, orders + 1)
        ]
        return CharModel(tables, float(arrays["unseen"]), bool(arrays["unspaced"]), about["facts"])


def _grams(symbols: Hashes, size: int) -> Hashes:
    """Hashes of n-grams, never 0 (0 marks an empty slot)."""
    return np.maximum(ngram_hashes(symbols, size), np.uint64(1))
