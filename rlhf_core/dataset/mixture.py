"""Reading a declared mixture to the token: phases in their order, in each so many tokens of every source.

The plan is JSON: {"seed", "phases": [{"name", "tokens", "sources": {NAME: share}, "read": {NAME: tokens}}]}; where `read`
is absent it follows from the shares. A document counts with its end token.

Which part of which document comes when is written to disk once, in memory that does not grow with the documents.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf_core.dataset.blocks import Blocks, Segments
from rlhf_core.dataset.permutation import permute, round_keys
from rlhf_core.dataset.token_store import Documents, joined
from rlhf_core.engine import Ranks
from rlhf_core.job.errors import BadInput

_AHEAD = 1 << 16  # documents of a source, or segments, that are looked at together
_COLUMNS = {"row": np.int64, "offset": np.int64, "length": np.int64, "ends": np.bool_, "behind": np.int64}


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
        step = self.blocks.width - 1
        names, firsts = list(self.firsts), np.array(list(self.firsts.values()))
        found: dict[str, dict[str, int]] = {}
        start = 0
        for phase, end in self.phases:
            counts = np.zeros(len(names))
            for first in range(start, end, _AHEAD):
                part = slice(first, min(first + _AHEAD, end))
                sizes = self.segments.length[part] + self.segments.ends[part]
                begins = self.segments.behind[part] - sizes
                whole, over = (np.clip(count * step - begins, 0, sizes) for count in (len(self.blocks), rest))
                source = np.searchsorted(firsts, self.segments.row[part], side="right") - 1
                counts += np.bincount(source, passes * whole + over, len(names))
            found[phase] = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
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


def mix(plan: Mapping[str, Any], sources: Mapping[str, Documents], end_id: int, length: int, folder: Path, ranks: Ranks) -> Mixture:
    """The plan's tokens as training rows. `folder`, which all ranks see, gets 33 bytes a document that is read.

    The next document is taken from the source that is furthest behind its share of the phase, so shares hold all through
    it. A document is cut where its source's tokens of the phase end, and goes on in the next phase.
    """
    ends = ranks.from_main(_write(plan, sources, folder) if ranks.is_main else None)
    segments = Segments(**{name: _mapped(folder / name, kind) for name, kind in _COLUMNS.items()})
    firsts = {name: first for name, first in _firsts(sources).items() if len(sources[name])}
    return Mixture(Blocks(joined(list(sources.values())), segments, end_id, length), segments, ends, firsts)


def _firsts(sources: Mapping[str, Documents]) -> dict[str, int]:
    """The row of each source's first document among those of all sources."""
    counts = [len(documents) for documents in sources.values()]
    return {name: sum(counts[:number]) for number, name in enumerate(sources)}


def _write(plan: Mapping[str, Any], sources: Mapping[str, Documents], folder: Path) -> list[tuple[str, int]]:
    """The segments of all phases, a file a column; returns where each phase's end."""
    names = dict.fromkeys(name for phase in plan["phases"] for name in phase["read"])
    firsts = _firsts(sources)
    streams = {name: _Stream(name, firsts.get(name, 0), sources.get(name, joined([])), int(plan["seed"])) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: folder / f".{os.getpid()}-{name}" for name in _COLUMNS}
    ends: list[tuple[str, int]] = []
    count = tokens = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context(path.open("wb")) for name, path in half.items()}
        for phase in plan["phases"]:
            for part in _interleaved(streams, {name: wanted for name, wanted in phase["read"].items() if wanted}):
                behind = tokens + (part.length + part.ends).cumsum()
                columns = {"row": part.row, "offset": part.offset, "length": part.length, "ends": part.ends, "behind": behind}
                for name, file in files.items():
                    file.write(columns[name].astype(_COLUMNS[name]).tobytes())
                count, tokens = count + len(behind), int(behind[-1])
            ends.append((phase["name"], count))
    for name, path in half.items():
        os.replace(path, folder / name)
    return ends


def _mapped(path: Path, kind: Any) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)  # an empty file cannot be mapped


class _Parts(NamedTuple):
    """Parts of one source's or of all sources' documents in reading order, (n,) int64 each but `ends`. `before`: the share of the phase's
    tokens of its source that stand before a part, float64."""

    row: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    ends: NDArray[np.bool_]
    before: NDArray[np.float64]

    def at(self, chosen: Any) -> _Parts:
        return _Parts(*(column[chosen] for column in self))


def _interleaved(streams: Mapping[str, _Stream], wanted: Mapping[str, int]) -> Iterator[_Parts]:
    """The parts of a phase: who is furthest behind is next, so they come by `before`; ties go to the first name."""
    coming = [streams[name].parts(wanted[name]) for name in sorted(wanted)]
    held = [next(source) for source in coming]  # no source of a phase wants nothing
    over = [False] * len(coming)
    while held:
        # What a source has not shown yet comes behind what it has.
        limit = min((own.before[-1] for own, done in zip(held, over, strict=True) if not done), default=math.inf)
        counts = [int(own.before.searchsorted(limit, side="right")) for own in held]
        ready = _Parts(*map(np.concatenate, zip(*(own.at(slice(count)) for own, count in zip(held, counts, strict=True)), strict=True)))
        if len(ready.row):
            yield ready.at(ready.before.argsort(kind="stable"))
        held = [own.at(slice(count, None)) for own, count in zip(held, counts, strict=True)]
        for number, own in enumerate(held):
            if not len(own.row) and not over[number]:
                more = next(coming[number], None)
                over[number] = more is None
                held[number] = own if more is None else more
        if all(over) and not any(len(own.row) for own in held):
            return


class _Stream:
    """An endless stream of a source's documents, each with its end token; every epoch in an order of its own. `first` is the
    row of its first document among those of all sources."""

    def __init__(self, name: str, first: int, documents: Documents, seed: int) -> None:
        if not len(documents):
            raise BadInput(
                f"the mixture's source {name!r} has no document; give it as the input `source:{name}`"
            )
        self._documents, self._first, self._name, self._seed = documents, first, name, seed
        self._position = self._read = 0  # documents that were read whole; what was read of the next one

    def parts(self, wanted: int) -> Iterator[_Parts]:
        """The next `wanted` tokens, ends among them, some documents at a time; the last is cut where they end."""
        done, count = 0, len(self._documents)
        while done < wanted:
            epoch, place = divmod(self._position, count)
            row = permute(np.arange(place, min(place + _AHEAD, count)), count, round_keys(self._seed, self._name, epoch))
            size = self._documents.length[row] + 1
            offset = np.zeros(len(row), np.int64)
            offset[0] = self._read
            behind = done + (size - offset).cumsum()
            taken = slice(int(behind.searchsorted(wanted)) + 1)
            row, size, offset, behind = row[taken], size[taken], offset[taken], behind[taken]
            before = behind - (size - offset)
            behind[-1] = min(behind[-1], wanted)
            ends = offset + (behind - before) == size
            self._position += int(ends.sum())  # all but perhaps the last
            self._read = 0 if ends[-1] else int(offset[-1] + behind[-1] - before[-1])
            done = int(behind[-1])
            yield _Parts(self._first + row, offset, behind - before - ends, ends, before / wanted)


def _by_share(phase: Mapping[str, Any]) -> dict[str, int]:
    """Whole tokens by largest remainders, ties by order."""
    total = int(phase["tokens"])
    weight = sum(phase["sources"].values())
    exact = {name: total * share / weight for name, share in phase["sources"].items()}
    whole = {name: int(tokens) for name, tokens in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[: total - sum(whole.values())]:
        whole[name] += 1
    return whole
