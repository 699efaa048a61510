"""Warnings follow from the figures alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.job.recorder import Recorder
from rlhf_core.job.watch import looked_at, warnings
from rlhf_core.measures.text_measures import commonest_share


def run(**curves: tuple[float, float]) -> list[dict[str, Any]]:
    """Twelve iterations on straight lines from the first value to the second."""
    plain = {"reward": (0.0, 0.0), "kl": (0.5, 0.5), "distinct_2": (0.4, 0.4), "watched_share": (0.03, 0.03)}
    return [
        {"step": i + 1, **{name: a + (b - a) * i / 11 for name, (a, b) in {**plain, **curves}.items()}} for i in range(12)
    ]


@pytest.mark.parametrize(
    ("curves", "kinds"),
    [
        ({}, set()),
        ({"reward": (0.0, 3.0)}, set()),
        ({"distinct_2": (0.4, 0.1)}, set()),  # variety fell, but not for the reward
        ({"reward": (2.7, 4.2), "distinct_2": (0.39, 0.15)}, {"sameness"}),
        ({"reward": (2.7, 4.2), "watched_share": (0.03, 0.7)}, {"pattern"}),
        # one spreads beside another that is there anyway
        ({"reward": (2.7, 4.2), "watched_share": (0.45, 0.45), "watched_share_1": (0.45, 0.45), "watched_share_2": (0.0, 0.4)}, {"pattern"}),
        # rewards of their own unit, not normalised: right or wrong, and points of a hundred
        ({"reward": (0.1, 0.5), "reward_std": (0.3, 0.5), "distinct_2": (0.39, 0.15)}, {"sameness"}),
        ({"reward": (50.0, 52.0), "reward_std": (20.0, 20.0), "distinct_2": (0.39, 0.15)}, set()),
        ({"kl": (0.0, 20.0)}, {"kl"}),
        ({"kl": (0.01, 1.0)}, set()),
    ],
)
def test_warnings(curves: dict[str, tuple[float, float]], kinds: set[str]) -> None:
    assert set(warnings(run(**curves))) == kinds


def test_a_sudden_runaway_is_seen_while_the_kl_is_still_small() -> None:
    lines = run()[:7] + [{**line, "kl": 4.0} for line in run()[7:]]
    assert "runs away" in warnings(lines)["kl"]


def test_other_stages_and_short_runs_have_no_warnings() -> None:
    assert warnings([{"step": 1, "loss": 1.0}] * 30) == {}
    assert warnings(run(reward=(0.0, 9.0), distinct_2=(0.9, 0.0))[:9]) == {}


def test_a_long_run_is_watched_by_few_of_its_lines() -> None:
    lines = [*run(reward=(0.0, 3.0), distinct_2=(0.9, 0.1)), *run(kl=(0.0, 30.0)), *run()]
    kept: list[Any] = []
    said = set()
    for count, line in enumerate(lines, 1):
        kept = looked_at([*kept, line])
        assert len(kept) <= 15 and warnings(kept) == warnings(lines[:count])
        said |= warnings(kept).keys()
    assert said == {"sameness", "kl"}


def test_the_job_says_a_warning_once_and_the_summary_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path, True)
    recorder.begin(None, 0.0)
    for line in run(kl=(0.0, 30.0)):
        recorder.write(line.pop("step"), 12, line)
    recorder.write_summary({"kl": 1.0})
    assert capsys.readouterr().out.count("warning: step") == 1
    assert "nats a response away" in json.loads((tmp_path / "summary.json").read_text())["warnings"][0]


def test_the_share_of_the_commonest_phrase() -> None:
    assert commonest_share([[1, 2, 3, 4, 5], [9, 1, 2, 3, 4], [1, 2, 3], [7, 7, 7, 7, 7]]) == 0.5
    assert commonest_share([[1, 2], []]) == 0.0
