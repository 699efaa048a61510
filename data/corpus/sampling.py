"""Balanced sampling over a label's distribution: which documents of each value stay is decided by a hash of their ids."""

from __future__ import annotations

from collections.abc import Sequence
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


def sampled_out(groups: NDArray[np.object_], ids: NDArray[np.bytes_], balance: Balance, seed: int) -> NDArray[np.bool_]:
    """Which documents the sampling leaves out; `groups` and `ids` of the same length, one per document."""
    keys = id_keys(ids, seed)
    known = sorted({group for group in groups.tolist() if group is not None})
    counts = {group: int((groups == group).sum()) for group in known}
    quotas = _quotas(counts, balance)
    out = np.zeros(len(groups), dtype=np.bool_)
    for group in known:
        members = np.flatnonzero(groups == group)
        order = members[np.lexsort((ids[members], keys[members]))]
        out[order[quotas[group] :]] = True
    return out


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
