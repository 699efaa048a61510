"""A mixture is read as a plain loop over its documents reads it, in memory that does not grow with them."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_core.dataset import mixture
from rlhf_core.dataset.mixture import mix
from rlhf_core.dataset.permutation import permute, round_keys
from rlhf_core.dataset.token_store import Documents
from rlhf_core.engine import Ranks
from rlhf_core.job.errors import BadInput

ALONE = Ranks(0, 1, torch.device("cpu"))
END = 1


def of_lengths(lengths: Any) -> Documents:
    """Documents whose tokens nobody asks for."""
    length = np.asarray(lengths, dtype=np.int64)
    plain = np.zeros(len(length), np.int32)
    tokens = np.broadcast_to(np.int32(7), (int(length.sum()),))
    return Documents([tokens], ["en"], plain, length.cumsum() - length, length, length, plain, np.zeros(len(length), np.uint64))


def by_hand(plan: dict[str, Any], lengths: dict[str, list[int]]) -> list[tuple[str, int, int, int, bool]]:
    """(source, document, offset, tokens, whether its end follows), one after the other."""
    state = {name: [0, 0] for name in lengths}  # of each stream: documents read whole, tokens and end read of the next
    found = []
    for phase in plan["phases"]:
        wanted = {name: tokens for name, tokens in phase["read"].items() if tokens}
        done = dict.fromkeys(wanted, 0)
        while open_ := [name for name in wanted if done[name] < wanted[name]]:
            name = min(open_, key=lambda name: (done[name] / wanted[name], name))
            position, read = state[name]
            epoch, place = divmod(position, len(lengths[name]))
            document = int(permute(np.array([place]), len(lengths[name]), round_keys(plan["seed"], name, epoch))[0])
            left = lengths[name][document] + 1 - read
            taken = min(left, wanted[name] - done[name])
            ends = taken == left
            found.append((name, document, read, taken - ends, ends))
            done[name] += taken
            state[name] = [position + 1, 0] if ends else [position, read + taken]
    return found


LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=9)


@given(
    st.dictionaries(st.sampled_from(["web", "sft", "books"]), LENGTHS, min_size=1),
    st.lists(st.dictionaries(st.sampled_from(["web", "sft", "books"]), st.integers(0, 80)), min_size=1, max_size=3),
    st.integers(0, 5),
    st.sampled_from([1, 2, 3, 1000]),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_a_plain_loop_over_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: dict[str, list[int]], phases: list[dict[str, int]], seed: int, ahead: int
) -> None:
    """Also where few documents are looked at together."""
    monkeypatch.setattr(mixture, "_AHEAD", ahead)
    read = [{name: tokens for name, tokens in phase.items() if name in lengths} for phase in phases]
    plan = {"seed": seed, "phases": [{"name": str(number), "read": phase} for number, phase in enumerate(read)]}
    found = mix(plan, {name: of_lengths(own) for name, own in lengths.items()}, END, 2, tmp_path, ALONE)
    firsts = dict(zip(lengths, np.cumsum([0, *map(len, lengths.values())]).tolist(), strict=False))
    wanted = by_hand(plan, lengths)
    segments = found.segments
    assert [(firsts[name] + document, *rest) for name, document, *rest in wanted] == list(
        zip(*(column.tolist() for column in (segments.row, segments.offset, segments.length, segments.ends)), strict=True)
    )
    assert segments.behind.tolist() == np.cumsum([tokens + ends for *_, tokens, ends in wanted]).tolist()
    whole = found.read(len(found.blocks))  # rows of two predict one token each: all of the plan
    assert [Counter(phase) for phase in whole.values()] == [+Counter(phase) for phase in read]


def test_shares_hold_all_through_a_phase(tmp_path: Path) -> None:
    plan = {"seed": 1, "phases": [{"name": "one", "read": {"a": 1500, "b": 500}}]}
    found = mix(plan, {"a": of_lengths([5, 0, 17, 3, 8, 100, 1]), "b": of_lengths([2, 2, 9])}, END, 11, tmp_path, ALONE)
    sizes = found.segments.length + found.segments.ends
    a, b = (np.where(own, sizes, 0).cumsum() for own in (found.segments.row < 7, found.segments.row >= 7))
    assert np.abs(a / 1500 - b / 500).max() <= 101 / 500  # never further apart than the longest document


def test_what_the_ranks_read_is_written_once(tmp_path: Path) -> None:
    plan = {"seed": 1, "phases": [{"name": "one", "read": {"a": 90}}]}
    sources = {"a": of_lengths([5, 8])}
    first = mix(plan, sources, END, 11, tmp_path, ALONE)
    again = mix(plan, sources, END, 11, tmp_path, ALONE)  # by the next attempt, while the first is still read
    assert first.segments.row.tolist() == again.segments.row.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["behind", "ends", "length", "offset", "row"]
    with pytest.raises(BadInput, match="source 'b' has no document"):
        mix({"seed": 1, "phases": [{"name": "one", "read": {"b": 9}}]}, sources, END, 11, tmp_path, ALONE)


def peak(documents: int, folder: Path) -> tuple[int, int]:
    """Bytes of memory at most while a plan of so many documents and as many conversations is laid out, and its segments."""
    sources = {"web": of_lengths(np.arange(documents) % 97 + 20), "sft": of_lengths(np.arange(documents) % 31)}
    tokens = {name: int(own.length.sum()) + documents for name, own in sources.items()}
    plan = {"seed": 1, "phases": [{"name": "stable", "read": {"web": tokens["web"]}}, {"name": "late", "read": {"web": tokens["web"] // 2, "sft": tokens["sft"]}}]}
    folder.mkdir()
    tracemalloc.start()
    ends = mixture._write(plan, sources, folder)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most, ends[-1][1]


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    few, some = peak(200_000, tmp_path / "few")
    many, more = peak(1_600_000, tmp_path / "many")
    assert some > 499_000 and more > 3_999_000
    assert many < 1.2 * few < 60_000_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_million_documents(tmp_path: Path) -> None:
    """Prints seconds and bytes: `pytest -m slow -s tests/rlhf_core/dataset/test_mixture.py`."""
    began = time.perf_counter()
    most, segments = peak(40_000_000, tmp_path / "many")
    print(f"\n{segments:,} documents in {time.perf_counter() - began:.0f} s, {most / 2**20:.0f} MiB")
    assert segments > 99_000_000 and most < 60_000_000
