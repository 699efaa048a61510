"""Reading a declared mixture to the token: phases in their order, in each so many tokens of every source.

The plan is JSON: {"seed", "phases": [{"name", "tokens", "sources": {NAME: share}, "read": {NAME: tokens}}]}; where `read`
is absent it follows from the shares. A document counts with its end token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.dataset.corpus import Document, rows_of
from rlhf_core.job.errors import BadInput


@dataclass(frozen=True)
class Mixture:
    """rows: (rows, length) int64 in reading order, overlapping by one token. read: tokens taken, by phase and source."""

    rows: np.ndarray
    read: dict[str, dict[str, int]]


def read_plan(path: Path) -> dict[str, Any]:
    """A plan with `read` in every phase; BadInput says what is wrong with the file."""
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for phase in plan["phases"]:
            phase["read"] = {
                str(name): int(tokens) for name, tokens in (phase.get("read") or _by_share(phase)).items()
            }
            if any(tokens < 0 for tokens in phase["read"].values()) or not sum(phase["read"].values()):
                raise ValueError(f"phase {phase['name']!r} reads no token")
        int(plan["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no mixture plan: {error!r}") from error
    return plan


def mix(plan: Mapping[str, Any], sources: Mapping[str, list[Document]], end_id: int, length: int) -> Mixture:
    """The plan's tokens as training rows.

    The next document is taken from the source that is furthest behind its share of the phase, so shares hold all through
    it. A document is cut where its source's tokens of the phase end, and goes on in the next phase.
    """
    streams = {
        name: _Stream(name, sources.get(name, []), plan["seed"], end_id)
        for phase in plan["phases"]
        for name in phase["read"]
    }
    parts = [np.array([end_id], dtype=np.int32)]
    read: dict[str, dict[str, int]] = {}
    for phase in plan["phases"]:
        wanted = {name: tokens for name, tokens in phase["read"].items() if tokens}
        done = dict.fromkeys(wanted, 0)
        while open_ := [name for name in wanted if done[name] < wanted[name]]:
            name = min(open_, key=lambda name: (done[name] / wanted[name], name))
            part = streams[name].take(wanted[name] - done[name])
            done[name] += len(part)
            parts.append(part)
        read[phase["name"]] = done
    return Mixture(rows_of(parts, length), read)


class _Stream:
    """An endless stream of a source's documents, each with its end token; every epoch in an order of its own."""

    def __init__(self, name: str, documents: list[Document], seed: int, end_id: int) -> None:
        if not documents:
            raise BadInput(
                f"the mixture's source {name!r} has no document; give it as the input `source:{name}`"
            )
        self._documents, self._end = documents, np.array([end_id], dtype=np.int32)
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        self._seed, self._position = [int(seed), key], 0
        self._order = np.zeros(0, dtype=np.int64)
        self._rest = np.zeros(0, dtype=np.int32)

    def take(self, most: int) -> np.ndarray:
        """The next document, or what is left of it, `most` tokens at most: (tokens,) int32."""
        if not len(self._rest):
            epoch, place = divmod(self._position, len(self._documents))
            if place == 0:
                self._order = np.random.default_rng([*self._seed, epoch]).permutation(len(self._documents))
            self._position += 1
            self._rest = np.concatenate([self._documents[self._order[place]].ids, self._end])
        part, self._rest = self._rest[:most], self._rest[most:]
        return part


def _by_share(phase: Mapping[str, Any]) -> dict[str, int]:
    """Whole tokens by largest remainders, ties by order."""
    total = int(phase["tokens"])
    weight = sum(phase["sources"].values())
    exact = {name: total * share / weight for name, share in phase["sources"].items()}
    whole = {name: int(tokens) for name, tokens in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[: total - sum(whole.values())]:
        whole[name] += 1
    return whole
