"""What a person is told: the ring is moved seldom and reaches its end, and Prefect's own lines of good ends are left out."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import httpx
import pytest

from tasks import show
from tasks.store.artifacts import Artifact, Input, Manifest


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
        progress({"step": step, "steps": 23, "loss": 1.0 / step, "seconds": step, "tokens": 140})
    assert [second for second, _, _ in told] == [0, 5, 10, 15, 20, 22]
    assert told[0][2] == "1/23 · loss 1"
    assert told[1][2] == "6/23 · loss 0.1667 · 140 tokens/s · 17 s left"  # 5 steps of 140 tokens in 5 s, 17 steps to go
    assert told[-1][1] == 100 and told[-1][2] == "23/23 · loss 0.04348 · 140 tokens/s"


def test_a_line_without_steps_moves_nothing(told: list[tuple[float, float, str]]) -> None:
    show.Progress("sft")({"loss": 1.0})
    assert not told


def test_an_absent_server_ends_no_training(told: list[tuple[float, float, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*given: Any, **more: Any) -> Any:
        raise httpx.ConnectError("All connection attempts failed")

    progress = show.Progress("sft")
    progress({"step": 1, "steps": 100})
    with monkeypatch.context() as away:
        away.setattr(show, "update_progress_artifact", absent)
        for step in range(2, 9):
            progress({"step": step, "steps": 100})
    for step in range(9, 20):
        progress({"step": step, "steps": 100})
    assert [text.split(" · ")[0] for _, _, text in told] == ["1/100", "11/100", "16/100"]


@pytest.mark.parametrize(("seconds", "said"), [(4.4, "4 s"), (99, "99 s"), (100, "2 min"), (3540, "59 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")])
def test_durations_as_a_person_says_them(seconds: float, said: str) -> None:
    assert show.duration(seconds) == said


def test_only_the_whole_runs_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def within(parent: UUID | None) -> bool:
        run = SimpleNamespace(flow_run=SimpleNamespace(parent_task_run_id=parent))
        monkeypatch.setattr(show.FlowRunContext, "get", lambda: run)
        return bool(logging.getLogger("prefect.flow_runs").filter(record("View at http://127.0.0.1:1/runs/flow-run/2")))

    assert (within(None), within(uuid4())) == (True, False)


def test_the_event_of_an_artifact_leads_to_what_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted = Mock()
    monkeypatch.setattr(show, "emit_event", emitted)
    now = datetime.now(UTC)
    inputs = {"corpus": Input(fingerprint="aa", stage="corpus"), "seeds": Input(fingerprint="bb", path="seeds.jsonl")}
    manifest = Manifest(stage="evaluation", version=1, fingerprint="cc", settings={}, inputs=inputs, metrics={"exact_match": 0.5, "listed": [1]}, started=now, ended=now)
    show.announce(manifest, Artifact(stage="evaluation", fingerprint="cc", url="s3://b/evaluation/cc"))
    assert emitted.call_args.args == ("evaluation.artifact.created",)
    given = emitted.call_args.kwargs
    assert given["resource"]["prefect.resource.id"] == "crawl2chat.evaluation.cc" and given["payload"]["figures"] == {"exact_match": 0.5}
    assert [one["prefect.resource.id"] for one in given["related"]] == ["crawl2chat.corpus.aa", "crawl2chat.files.bb"]
    assert {one["prefect.resource.role"] for one in given["related"]} == {"input"}
