"""Balanced sampling over a label's distribution: which documents of each value stay is decided by a hash of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.rules import is_text, numbers
from data.document import values
from data.settings import Balance
from data.text import Hashes, mix


def groups_of(labels: pa.Table, balance: Balance) -> list[str | None]:
    """The value of each document that `balance` samples by; None where the label is null.

    Raises ValueError where nobody measures the label, or where a number has no edges.
    """
    name = balance.label
    if name not in labels.schema.names:
        raise ValueError(f"balance: no stage measures the label {name!r}")
    if is_text(labels, name):
        if balance.edges is not None:
            raise ValueError(f"balance: the label {name!r} is text and has no edges")
        return values(labels, name)
    if balance.edges is None:
        raise ValueError(f"balance: the label {name!r} is a number: give the edges of its ranges")
    measure = numbers(labels, name)
    names = range_names(balance.edges)
    at = np.searchsorted(np.array(balance.edges), measure, side="right")
    return [None if np.isnan(value) else names[place] for value, place in zip(measure.tolist(), at.tolist(), strict=True)]


def range_names(edges: Sequence[float]) -> list[str]:
    """Names of the len(edges) + 1 ranges: edges 1 and 5 make <1, 1-5 and >=5; a range has its lower edge in it."""
    shown = [f"{edge:g}" for edge in edges]
    middle = [f"{low}-{high}" for low, high in pairwise(shown)]
    return [f"<{shown[0]}", *middle, f">={shown[-1]}"]


class Groups:
    """Of every document the value that a balance samples by, in 4 bytes; taken shard by shard (`add`)."""

    def __init__(self, balance: Balance) -> None:
        self._balance = balance
        self._places: dict[str, int] = {}
        self._parts: list[NDArray[np.int32]] = []

    def add(self, labels: pa.Table) -> None:
        """Raises ValueError as `groups_of`."""
        values_of = groups_of(labels, self._balance)
        places = [-1 if value is None else self._places.setdefault(value, len(self._places)) for value in values_of]
        self._parts.append(np.array(places, dtype=np.int32))

    def join(self) -> Grouped:
        return Grouped(np.concatenate([np.zeros(0, np.int32), *self._parts]), list(self._places), self._balance)


@dataclass(frozen=True)
class Grouped:
    """What `Groups` took: of every document the place of its value among the names, or -1."""

    places: NDArray[np.int32]
    names: Sequence[str]
    balance: Balance

    def value(self, row: int) -> str:
        """What a dropped document's record says."""
        return f"{self.balance.label} {self.names[self.places[row]]}"

    def sampled_out(self, rows: NDArray[np.int64], keys: Hashes) -> NDArray[np.int64]:
        """Those of `rows` that the sampling leaves out; `keys` of the same length (`id_keys`) are the order in which a value's documents stay."""
        places = self.places[rows]
        counts = np.bincount(places[places >= 0], minlength=len(self.names))
        quotas = _quotas({name: int(count) for name, count in zip(self.names, counts, strict=True) if count}, self.balance)
        quota_of = np.array([quotas.get(name, 0) for name in self.names], dtype=np.int64)
        order = np.lexsort((keys, places))
        order = order[places[order] >= 0]
        ordered = places[order]
        nth = np.arange(len(order)) - (np.cumsum(counts) - counts)[ordered]  # among the documents of its value
        return rows[order[nth >= quota_of[ordered]]]


def _quotas(counts: dict[str, int], balance: Balance) -> dict[str, int]:
    """How many documents of each value stay."""
    if balance.max_documents is not None:
        return {group: min(count, balance.max_documents) for group, count in counts.items()}
    assert balance.shares is not None
    others = balance.shares.get("*", 0.0)
    weights = {group: balance.shares.get(group, others) for group in counts}
    scales = [counts[group] / weight for group, weight in weights.items() if weight > 0]
    scale = min(scales, default=0.0)
    # Rounding may not lift a quota over what there is, nor take the scarcest value's last document.
    return {group: min(counts[group], int(scale * weight + 1e-9)) for group, weight in weights.items()}


def id_keys(ids: NDArray[np.bytes_], seed: int) -> Hashes:
    """A 64-bit key of each id (32 bytes), as if drawn at random; other keys for another seed."""
    keys = np.full(len(ids), seed, dtype=np.uint64)
    for part in ids.astype("S32").view("<u8").reshape(len(ids), 4).T:
        keys = mix((keys ^ part) + np.uint64(1))
    return keys
