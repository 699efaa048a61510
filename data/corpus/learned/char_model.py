"""A character n-gram language model: interpolated Witten-Bell smoothing in hash tables, trained and asked in numpy.

p(c | h) = (count(hc) + T(h) p(c | h')) / (N(h) + T(h)), with N(h) how often the context h was seen, T(h) by how many
different characters it was followed, h' the context without its first character, and below the unigrams a uniform
distribution over CHARACTERS (Witten and Bell 1991; Chen and Goodman 1999, 2.5). Every seen n-gram's probability and
every context's weight T/(N+T) are worked out at training; asking is one table look-up per character and order.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.text import MULTIPLIER, Hashes, code_points, mix, ngram_hashes, normalise, unspaced_share

VERSION = 1
CHARACTERS = 20_000  # an unseen character costs log2 of this, beyond the weight of being unseen
_PROBES = 4
_BLOCK = 1 << 18  # characters scored at once

_NUMBER = re.compile(r"\d[\d.,:/-]*")
_ADDRESS = re.compile(r"[a-z0-9._%+/:?=&#~-]*(?:@|://|www\.)[a-z0-9._%+/:?=&#~-]*")
_ADDRESS_SIGN = re.compile(r"@|://|www\.")
_LATIN_WORD = re.compile(r"[a-z][a-z0-9._'-]*")


def characters(text: str, unspaced: bool) -> Hashes:
    """`text` as the model reads it, one hash per character: NFKC, lower case, white space folded; a number is one
    character, an address (web, e-mail) is one, and in unspaced scripts so is a foreign word.
    """
    folded = _NUMBER.sub("0", _fold_addresses(" ".join(normalise(text).split())))
    if unspaced:
        folded = _LATIN_WORD.sub("a", folded)
    return mix(code_points(folded).astype(np.uint64) + np.uint64(1))


def _fold_addresses(text: str) -> str:
    """An "@" for each address; words stand between single spaces, and few have a sign of one."""
    parts: list[str] = []
    at = 0
    for sign in _ADDRESS_SIGN.finditer(text):
        if sign.start() < at:
            continue  # of a word that is done
        start = text.rfind(" ", at, sign.start()) + 1 or at
        end = text.find(" ", sign.end())
        end = len(text) if end < 0 else end
        parts += [text[at:start], _ADDRESS.sub("@", text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


@dataclass(frozen=True)
class _Table:
    """n-grams of one order in an open hash table: `keys`, their probability, their weight as a context."""

    keys: Hashes  # shape (2^bits,), 0 = empty
    probability: NDArray[np.float32]
    weight: NDArray[np.float32]

    @staticmethod
    def build(keys: Hashes, probability: NDArray[np.float32], weight: NDArray[np.float32]) -> _Table:
        bits = max(4, (len(keys) * 3).bit_length())
        while (table := _Table._place(keys, probability, weight, bits)) is None:
            bits += 1
        return table

    @staticmethod
    def _place(
        keys: Hashes, probability: NDArray[np.float32], weight: NDArray[np.float32], bits: int
    ) -> _Table | None:
        size = 1 << bits
        table = _Table(np.zeros(size, np.uint64), np.zeros(size, np.float32), np.ones(size, np.float32))
        waiting = np.arange(len(keys))
        for probe in range(_PROBES):
            slots = ((keys[waiting] + np.uint64(probe)) & np.uint64(size - 1)).astype(np.int64)
            free = table.keys[slots] == 0
            chosen, first = np.unique(slots[free], return_index=True)
            placed = waiting[free][first]
            table.keys[chosen], table.probability[chosen] = keys[placed], probability[placed]
            table.weight[chosen] = weight[placed]
            waiting = np.setdiff1d(waiting, placed, assume_unique=True)
            if not len(waiting):
                return table
        return None

    def find(self, grams: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether each n-gram is here, and its slot where it is."""
        mask = np.uint64(len(self.keys) - 1)
        slots = (grams & mask).astype(np.int64)
        hit = self.keys[slots] == grams
        missed = np.flatnonzero(~hit & (self.keys[slots] != 0))
        for probe in range(1, _PROBES):
            if not len(missed):
                break
            at = ((grams[missed] + np.uint64(probe)) & mask).astype(np.int64)
            found = self.keys[at] == grams[missed]
            slots[missed[found]] = at[found]
            hit[missed[found]] = True
            missed = missed[~found & (self.keys[at] != 0)]
        return hit, slots


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
        unspaced = unspaced_share(text[:_BLOCK]) > 0.5
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
            _Table.build(key, probability.astype(np.float32), weight.astype(np.float32))
            for key, probability, weight in zip(keys, probabilities, weights, strict=True)
        ]
        facts = {"order": order, "characters": len(symbols), "ngrams": sum(map(len, keys))}
        return CharModel(tables, unseen, unspaced, facts)

    def bits(self, text: str) -> float:
        """Mean bits per character of `text`: -log2 of its probability over its length; 0.0 for an empty text."""
        symbols = characters(text, self._unspaced)
        if not len(symbols):
            return 0.0
        overlap = len(self._tables) - 1
        total = 0.0
        for at in range(0, len(symbols), _BLOCK):
            start = max(0, at - overlap)
            total += float(self._block_bits(symbols[start : at + _BLOCK])[at - start :].sum())
        return total / len(symbols)

    def _block_bits(self, symbols: Hashes) -> NDArray[np.float64]:
        probability = np.full(len(symbols), self._unseen / CHARACTERS, dtype=np.float64)
        known = np.ones(len(symbols) + 1, dtype=np.bool_)  # the shorter n-grams from each place are in the model
        weight = np.ones(len(symbols) + 1, dtype=np.float32)  # of each place's n-gram as a context
        sums = np.zeros(len(symbols), np.uint64)
        for size, table in enumerate(self._tables, 1):
            count = len(symbols) - size + 1
            if count <= 0:
                break
            # The hash of data.text.ngram_hashes, each size going on from the one before.
            sums = sums[:count] * np.uint64(MULTIPLIER) + symbols[size - 1 :]
            # Training kept every n-gram: one whose beginning or end was never seen was not seen either.
            at = np.flatnonzero(known[:count] & known[1 : count + 1])
            hit, slots = table.find(np.maximum(mix(sums[at]), np.uint64(1)))
            at, slots = at[hit], slots[hit]
            place = probability[size - 1 :]
            if size > 1:
                place *= weight[:count]
            place[at] = table.probability[slots]
            known, weight = np.zeros(count, dtype=np.bool_), np.ones(count, dtype=np.float32)
            known[at], weight[at] = True, table.weight[slots]
        return -np.log2(probability)

    def save(self, path: Path) -> None:
        """One .npz file of the seen n-grams (no empty slots)."""
        about = json.dumps({"version": VERSION, "facts": self.facts}).encode()
        arrays: dict[str, NDArray] = {"about": np.frombuffer(about, np.uint8)}
        arrays |= {"unseen": np.array(self._unseen), "unspaced": np.array(self._unspaced)}
        for size, table in enumerate(self._tables, 1):
            used = table.keys != 0
            arrays[f"keys_{size}"] = table.keys[used]
            arrays[f"probability_{size}"] = table.probability[used]
            arrays[f"weight_{size}"] = table.weight[used]
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
            _Table.build(arrays[f"keys_{n}"], arrays[f"probability_{n}"], arrays[f"weight_{n}"]) for n in range(1, orders + 1)
        ]
        return CharModel(tables, float(arrays["unseen"]), bool(arrays["unspaced"]), about["facts"])


def _grams(symbols: Hashes, size: int) -> Hashes:
    """Hashes of n-grams, never 0 (0 marks an empty slot)."""
    return np.maximum(ngram_hashes(symbols, size), np.uint64(1))
