"""What a person is told: the ring is moved seldom and reaches its end, and Prefect's own lines of good ends are left out."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks import show


def record(message: str, *arguments: Any) -> logging.LogRecord:
    return logging.LogRecord("prefect.task_runs", logging.INFO, "", 0, message, arguments, None)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Finished in state Completed()", False),
        ("Finished in state Reused(type=COMPLETED)", False),
        ("Finished in state NothingNew('no new crawl files: 3 lie there, all known', type=COMPLETED)", True),
        ("Finished in state Failed('Completed()')", True),
        ("Finished in state Cancelled('a person said no')", True),
        ("pretrain: made artifacts/pretrain/1 · steps 850", True),
    ],
)
def test_lines_of_runs_that_ended_well_are_left_out(line: str, kept: bool) -> None:
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        assert bool(logging.getLogger(name).filter(record(line))) is kept


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, str]]:
    """What Prefect is asked to show: (second, percent, text). The clock moves a second with every look."""
    shown: list[tuple[float, float, str]] = []
    clock = iter(range(10_000))
    now = [0.0]

    def tick() -> float:
        now[0] = float(next(clock))
        return now[0]

    def create(progress: float, key: str, description: str) -> UUID:
        shown.append((now[0], progress, description))
        return uuid4()

    def update(artifact: UUID, progress: float, description: str) -> None:
        shown.append((now[0], progress, description))

    monkeypatch.setattr(show, "create_progress_artifact", create)
    monkeypatch.setattr(show, "update_progress_artifact", update)
    monkeypatch.setattr(show.TaskRunContext, "get", lambda: object())
    monkeypatch.setattr(show.time, "monotonic", tick)
    return shown


def test_a_ring_is_moved_seldom_and_to_the_end(told: list[tuple[float, float, str]]) -> None:
    progress = show.Progress("sft")
    for step in range(1, 24):
        progress({"step": step, "steps": 23, "loss": 1.0 / step, "seconds": step})
    assert [second for second, _, _ in told] == [0, 5, 10, 15, 20, 22]
    assert told[-1][1] == 100 and told[-1][2].startswith("23/23 · loss 0.04348")


def test_a_line_without_steps_moves_nothing(told: list[tuple[float, float, str]]) -> None:
    show.Progress("sft")({"loss": 1.0})
    assert not told
