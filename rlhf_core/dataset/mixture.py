"""Reading a declared mixture to the token: phases in their order, in each so many tokens of every source.

The plan is JSON: {"seed", "phases": [{"name", "tokens", "sources": {NAME: share}, "read": {NAME: tokens}}]}; where `read`
is absent it follows from the shares. A document counts with its end token.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_core.dataset.blocks import Blocks, Segments
from rlhf_core.dataset.token_store import Documents, joined
from rlhf_core.job.errors import BadInput


@dataclass(frozen=True)
class Mixture:
    """blocks: training rows in reading order. phases: (name, its segments' end) in order. firsts: of each source the first row."""

    blocks: Blocks
    segments: Segments
    phases: Sequence[tuple[str, int]]
    firsts: Mapping[str, int]

    def read(self, rows: int) -> dict[str, dict[str, int]]:
        """Tokens that the first `rows` training rows hold, by phase and source; after the last row the first comes again.

        The plan's last tokens, too few for a row, are in none.
        """
        passes, rest = divmod(rows, max(1, len(self.blocks)))
        sizes = self.segments.length + self.segments.ends
        begins = sizes.cumsum() - sizes
        whole, part = (np.clip(count * (self.blocks.width - 1) - begins, 0, sizes) for count in (len(self.blocks), rest))
        tokens = passes * whole + part
        names = list(self.firsts)
        source = np.searchsorted(np.array(list(self.firsts.values())), self.segments.row, side="right") - 1
        found: dict[str, dict[str, int]] = {}
        start = 0
        for phase, end in self.phases:
            counts = np.bincount(source[start:end], tokens[start:end], len(names)).astype(np.int64).tolist()
            found[phase] = {name: count for name, count in zip(names, counts, strict=True) if count}
            start = end
        return found


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


def mix(plan: Mapping[str, Any], sources: Mapping[str, Documents], end_id: int, length: int) -> Mixture:
    """The plan's tokens as training rows.

    The next document is taken from the source that is furthest behind its share of the phase, so shares hold all through
    it. A document is cut where its source's tokens of the phase end, and goes on in the next phase.
    """
    firsts = np.cumsum([0, *(len(documents) for documents in sources.values())])
    known = {name: (int(first), documents) for first, (name, documents) in zip(firsts, sources.items(), strict=False)}
    streams = {
        name: _Stream(name, *known.get(name, (0, joined([]))), plan["seed"])
        for phase in plan["phases"]
        for name in phase["read"]
    }
    columns = [array("q") for _ in range(4)]
    ends: list[tuple[str, int]] = []
    for phase in plan["phases"]:
        wanted = {name: tokens for name, tokens in phase["read"].items() if tokens}
        done = dict.fromkeys(wanted, 0)
        while open_ := [name for name in wanted if done[name] < wanted[name]]:
            name = min(open_, key=lambda name: (done[name] / wanted[name], name))
            part = streams[name].take(wanted[name] - done[name])
            done[name] += part.length + part.ends
            for column, value in zip(columns, (part.row, part.offset, part.length, part.ends), strict=True):
                column.append(value)
        ends.append((phase["name"], len(columns[0])))
    row, offset, lengths, ended = (np.array(column, dtype=np.int64) for column in columns)
    segments = Segments(row, offset, lengths, ended.astype(np.bool_))
    blocks = Blocks(joined(list(sources.values())), segments, end_id, length)
    return Mixture(blocks, segments, ends, {name: first for name, (first, documents) in known.items() if len(documents)})


class _Part(NamedTuple):
    row: int
    offset: int
    length: int
    ends: bool


class _Stream:
    """An endless stream of a source's documents, each with its end token; every epoch in an order of its own. `first` is the
    row of its first document among those of all sources."""

    def __init__(self, name: str, first: int, documents: Documents, seed: int) -> None:
        if not len(documents):
            raise BadInput(
                f"the mixture's source {name!r} has no document; give it as the input `source:{name}`"
            )
        self._documents, self._first = documents, first
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        self._seed, self._position = [int(seed), key], 0
        self._order = np.zeros(0, dtype=np.int64)
        self._row = self._read = self._left = 0  # the document at hand; its tokens that were read; left, with the end

    def take(self, most: int) -> _Part:
        """The next document, or what is left of it, `most` tokens at most."""
        if not self._left:
            epoch, place = divmod(self._position, len(self._documents))
            if place == 0:
                self._order = np.random.default_rng([*self._seed, epoch]).permutation(len(self._documents))
            self._position += 1
            self._row, self._read = int(self._order[place]), 0
            self._left = int(self._documents.length[self._row]) + 1
        ends = most >= self._left
        length = self._left - 1 if ends else most
        part = _Part(self._first + self._row, self._read, length, ends)
        self._read, self._left = self._read + length, self._left - length - ends
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
