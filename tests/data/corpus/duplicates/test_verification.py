"""Candidates and their true similarity, against Python's sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.corpus.duplicates import shingling
from data.corpus.duplicates.components import Components
from data.corpus.duplicates.keys import KEYED, Keyed
from data.corpus.duplicates.shingling import ShingleSets, write_sets
from data.corpus.duplicates.verification import candidates, verified_links
from data.settings import DedupSettings
from data.shards import write_shard
from data.text import shingles
from tests.data.corpus.helpers import documents

TEXTS = ["", "one", "one two three four five six", "one two three four five seven", "一二三四五六七八九", "一二三四五六七八十", "x " * 300, "one  TWO three four five six"]


def _sets(folder: Path, texts: list[str], cut: int) -> ShingleSets:
    files = []
    for number, part in enumerate((texts[:cut], texts[cut:])):
        write_shard(folder / f"{number}.parquet", documents(*part))
        files.append(folder / f"{number}.sets")
        write_sets(folder / f"{number}.parquet", np.ones(len(part), np.bool_), files[-1], DedupSettings())
    return ShingleSets(files)


def _keyed(keys: list[int], order: list[int]) -> Keyed:
    part = np.empty(len(keys), KEYED)
    part["key"], part["order"], part["row"] = keys, order, np.arange(len(keys))
    return part


def _joined(component: list[int]) -> Components:
    components = Components(len(component))
    components.join((np.array(component), np.arange(len(component))))
    return components


def _pairs(links: Any) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in zip(*links, strict=True)}


@pytest.mark.parametrize("at_once", [1, 20, 1 << 20])
@pytest.mark.parametrize("cut", [0, 3, len(TEXTS)])
def test_similarity_of_pairs(tmp_path: Path, cut: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shingling, "_AT_ONCE", at_once)
    left, right = (np.array(side) for side in zip(*[(a, b) for a in range(len(TEXTS)) for b in range(len(TEXTS))], strict=True))
    sets = [set(shingles(text).tolist()) for text in TEXTS]
    expected = [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    assert _sets(tmp_path, TEXTS, cut).jaccards(left, right).tolist() == expected
    assert expected[2 * len(TEXTS) + 7] == 1  # white space and case are no difference
    assert expected[2 * len(TEXTS) + 3] == 1 / 3


def test_only_wanted_rows_are_written(tmp_path: Path) -> None:
    write_shard(tmp_path / "d.parquet", documents(*TEXTS))
    wanted = np.zeros(len(TEXTS), np.bool_)
    wanted[[2, 3]] = True
    write_sets(tmp_path / "d.parquet", wanted, tmp_path / "d.sets", DedupSettings())
    sets = ShingleSets([tmp_path / "d.sets"])
    assert sets.jaccards(np.array([2]), np.array([3])).tolist() == [1 / 3]
    (tmp_path / "d.sets").write_bytes((tmp_path / "d.sets").read_bytes()[:-1])
    with pytest.raises(OSError, match=r"d\.sets ends before the shingles"):
        sets.jaccards(np.array([2]), np.array([3]))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=20))
def test_candidates_are_one_of_each_component_in_a_group(rows: list[tuple[int, int]]) -> None:
    component = [min(at for at, (_, other) in enumerate(rows) if other == name) for _, name in rows]
    order = list(range(len(rows)))[::-1]
    part = _keyed([key for key, _ in rows], order)
    expected = set()
    for at, (key, name) in enumerate(rows):
        others = {other for k, other in rows if k == key}
        best = min((row for row, (k, other) in enumerate(rows) if (k, other) == (key, name)), key=lambda row: order[row])
        if len(others) > 1 and best == at:
            expected.add(at)
    found = candidates(part, _joined(component))
    assert set(found["row"].tolist()) == expected and np.all(np.diff(found["key"].astype(int)) >= 0)


def test_who_is_not_like_the_leader_may_be_like_the_next(tmp_path: Path) -> None:
    """One group of five: two alike, two others alike, one like nobody; leaders by their order, which runs against the rows here."""
    base, other = "a b c d e f g h i j k l m n o p", "q r s t u v w x y z 1 2 3 4 5 6"
    sets = _sets(tmp_path, [base, other, base + " q", other + " a", "nobody is like this one here"], 2)
    part = _keyed([0] * 5, [4, 3, 2, 1, 0])
    assert _pairs(verified_links(part, Components(5), sets, 0.7)) == {(3, 1), (2, 0)}
    joined = _joined([0, 1, 2, 1, 4])  # 1 and 3 are one already: 3, which comes first, stands for both
    assert _pairs(verified_links(part, joined, sets, 0.7)) == {(2, 0)}


def test_a_group_of_strangers_costs_no_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = [f"{number} {number + 1000}" for number in range(100)]
    sets = _sets(tmp_path, strangers, 50)
    compared: list[int] = []
    whole = ShingleSets.jaccards
    monkeypatch.setattr(ShingleSets, "jaccards", lambda self, left, right: (compared.append(len(left)), whole(self, left, right))[1])
    assert not _pairs(verified_links(_keyed([0] * 100, list(range(100))), Components(100), sets, 0.5))
    assert compared == [99, 98, 97, 96, 95, 94, 93, 92]


def test_bands_are_chosen_for_a_threshold() -> None:
    """The most rows with which nine of ten pairs at the threshold are found: 14 x 8 at .8, found with 1 - (1 - .8^8)^14 = .92."""
    chosen = [DedupSettings.model_validate({"threshold": at, "bands": None, "rows": None}) for at in (0.5, 0.8, 0.9)]
    assert [(one.bands, one.rows) for one in chosen] == [(37, 3), (14, 8), (8, 13)]
    for one in chosen:
        assert 1 - (1 - one.threshold**one.rows) ** one.bands >= 0.9 > 1 - (1 - one.threshold ** (one.rows + 1)) ** (112 // (one.rows + 1))
    with pytest.raises(ValidationError, match="bands"):
        DedupSettings.model_validate({"bands": None})
    with pytest.raises(ValidationError, match="threshold"):
        DedupSettings.model_validate({"threshold": "high", "bands": None, "rows": None})
