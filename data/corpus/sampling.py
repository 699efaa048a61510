"""Balanced sampling over a label's distribution: which documents of each value stay is decided by a hash of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.rules import is_text, numbers
from data.document import Verdict, id_bytes, values
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


class Samplings:
    """Takes the labels of all documents shard by shard (`add`), then says which the samplings leave out (`decide`): 8 bytes a document
    and 4 for each sampling, nothing where there is none.
    """

    def __init__(self, balances: Sequence[Balance], seed: int) -> None:
        self._seed = seed
        self._values = [_Values(balance) for balance in balances]
        self._keys = [np.zeros(0, np.uint64)]

    def add(self, labels: pa.Table) -> None:
        """Raises ValueError as `groups_of`."""
        if self._values:
            self._keys.append(id_keys(id_bytes(labels), self._seed))
        for one in self._values:
            one.add(labels)

    def decide(self, stays: NDArray[np.bool_]) -> Sampled:
        """One sampling after the other, each among the documents that the ones before leave of `stays`, which gets shorter by them."""
        by, keys = np.zeros(len(stays), dtype=np.int8), np.concatenate(self._keys)
        groups = [one.joined() for one in self._values]
        for number, group in enumerate(groups, 1):
            rows = np.flatnonzero(stays)
            gone = rows[group.left_out(rows, keys[rows])]
            stays[gone], by[gone] = False, number
        return Sampled(groups, by)


class _Values:
    """Of every document its place in `names`, the values that a balance samples by, or -1."""

    def __init__(self, balance: Balance) -> None:
        self._balance = balance
        self._names: dict[str, int] = {}
        self._places = [np.zeros(0, np.int32)]

    def add(self, labels: pa.Table) -> None:
        found = groups_of(labels, self._balance)
        places = [-1 if value is None else self._names.setdefault(value, len(self._names)) for value in found]
        self._places.append(np.array(places, dtype=np.int32))

    def joined(self) -> _Grouped:
        return _Grouped(self._balance, list(self._names), np.concatenate(self._places))


@dataclass(frozen=True)
class _Grouped:
    balance: Balance
    names: Sequence[str]
    places: NDArray[np.int32]

    def left_out(self, rows: NDArray[np.int64], keys: Hashes) -> NDArray[np.int64]:
        """Which of `rows`, by their place, the sampling leaves out; of a value's documents those with the smallest `keys` stay."""
        of = self.places[rows]
        counts = np.bincount(of[of >= 0], minlength=len(self.names))
        quotas = _quotas({name: count for name, count in zip(self.names, counts.tolist(), strict=True) if count}, self.balance)
        quota = np.array([quotas.get(name, 0) for name in self.names], dtype=np.int64)
        order = np.lexsort((keys, of))
        order = order[of[order] >= 0]
        nth = np.arange(len(order)) - (np.cumsum(counts) - counts)[of[order]]  # among the documents of its value
        return order[nth >= quota[of[order]]]


@dataclass(frozen=True)
class Sampled:
    """Of every document the number of the sampling that left it out, from 1, or 0."""

    groups: Sequence[_Grouped]
    by: NDArray[np.int8]

    def verdict(self, row: int) -> Verdict | None:
        if not (number := int(self.by[row])):
            return None
        group = self.groups[number - 1]
        return "balance", f"{group.balance.label} {group.names[group.places[row]]}"

    def counts(self) -> dict[str, int]:
        return {"balance": count} if (count := int(np.count_nonzero(self.by))) else {}


def _quotas(counts: dict[str, int], balance: Balance) -> dict[str, int]:
    """How many documents of each value stay. Raises ValueError where shares leave nothing of any: a value that is written otherwise."""
    if balance.max_documents is not None:
        return {group: min(count, balance.max_documents) for group, count in counts.items()}
    assert balance.shares is not None
    others = balance.shares.get("*", 0.0)
    weights = {group: balance.shares.get(group, others) for group in counts}
    scales = [counts[group] / weight for group, weight in weights.items() if weight > 0]
    if counts and not scales:
        there = ", ".join(sorted(counts)[:20])
        raise ValueError(f"balance over {balance.label!r}: no document has a value with a share ({', '.join(balance.shares)}); there are: {there}")
    scale = min(scales, default=0.0)
    # Rounding may not lift a quota over what there is, nor take the scarcest value's last document.
    return {group: min(counts[group], int(scale * weight + 1e-9)) for group, weight in weights.items()}


def id_keys(ids: NDArray[np.bytes_], seed: int) -> Hashes:
    """A 64-bit key of each id (32 bytes), as if drawn at random; other keys for another seed."""
    keys = np.full(len(ids), seed, dtype=np.uint64)
    for part in ids.astype("S32").view("<u8").reshape(len(ids), 4).T:
        keys = mix((keys ^ part) + np.uint64(1))
    return keys
