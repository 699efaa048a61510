"""Shards are dealt out to task runs, each done once, also after a kill."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data.document import Counts
from tasks import show
from tasks.groups import Group, ShardWork
from tasks.shards import Waiting, map_shards, work_on_group
from tasks.worker_processes import worker_processes


def count_lines(shard: Path, out: Path, index: int) -> Counts:
    lines = shard.read_text().splitlines()
    with (out / f"seen-{index}").open("a") as stream:
        stream.write("x")
    return Counts(len(lines), len(lines) - 1, {"first": 1})


def write_shards(folder: Path, count: int) -> list[Path]:
    shards = [folder / f"{number}.txt" for number in range(count)]
    for shard in shards:
        shard.write_text("a\nb\nc\n")
    return shards


class _Lines(logging.Handler):
    """What task runs logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, logger = _Lines(), logging.getLogger("prefect.task_runs")
    logger.addHandler(handler)
    yield handler.said
    logger.removeHandler(handler)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.usefixtures("prefect_server")
def test_they_add_up_in_threads_and_processes(tmp_path: Path, processes: int, lines: list[str]) -> None:
    """Twenty shards are no twenty lines in the log: the stage says what came of them."""
    shards = write_shards(tmp_path, 20)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
    def mapped() -> Counts:
        with worker_processes(processes) if processes else nullcontext():
            return map_shards("lines", count_lines, shards, tmp_path / "out", tmp_path / "progress", workers=2)

    assert mapped() == Counts(60, 40, {"first": 20})
    assert len(list((tmp_path / "out").iterdir())) == 20
    assert lines == []


@pytest.mark.usefixtures("prefect_server")
def test_a_failed_shard_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """The other run finishes what it has begun and takes no more."""
    failed = threading.Event()
    give_up = Waiting.give_up

    def gives_up(waiting: Waiting) -> None:
        give_up(waiting)
        failed.set()

    def fails_on_the_first(shard: Path, out: Path, index: int) -> Counts:
        if index == 0:
            raise ValueError("no luck")
        assert failed.wait(300)  # however busy the machine is
        return count_lines(shard, out, index)

    monkeypatch.setattr(Waiting, "give_up", gives_up)
    shards = write_shards(tmp_path, 20)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
    def mapped() -> Counts:
        return map_shards("lines", fails_on_the_first, shards, tmp_path / "out", tmp_path / "progress", workers=2)

    with pytest.raises(ValueError, match="no luck"):
        mapped()
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"seen-1"}
    assert any("Failed" in line for line in lines)


def test_a_cluster_gets_groups_of_even_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no common list; the largest shards are dealt first, so that none is left over at the end."""
    shards = write_shards(tmp_path, 16)
    for number, shard in enumerate(shards):
        shard.write_text("line\n" * (number + 1))
    groups: list[list[int]] = []

    class Cluster:
        task_runner = None

    def run(**named: str) -> SimpleNamespace:
        def submit(work: ShardWork, group: Group, *folders: str) -> Future[Counts]:
            groups.append([index for index, _ in group])
            done: Future[Counts] = Future()
            done.set_result(Counts())
            return done

        return SimpleNamespace(submit=submit)

    monkeypatch.setattr("tasks.shards.FlowRunContext.get", lambda: Cluster)
    monkeypatch.setattr(work_on_group, "with_options", run)
    map_shards("lines", count_lines, shards, tmp_path / "out", tmp_path / "progress", workers=2)
    assert groups == [[15 - number, 7 - number] for number in range(8)]


def test_a_long_stage_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at from outside: whoever works on the shards, each leaves a file when it is done."""
    said: list[tuple[int, int]] = []
    looked = threading.Event()

    class Ring:
        def __init__(self, stage: str) -> None:
            self.id = stage

        def count(self, done: int, of: int, text: str) -> None:
            said.append((done, of))
            looked.set()

    def waits_for_a_look(shard: Path, out: Path, index: int) -> Counts:
        if index == 2:
            looked.clear()
            assert looked.wait(300)  # however busy the machine is
        return count_lines(shard, out, index)

    monkeypatch.setattr(show, "Progress", Ring)
    monkeypatch.setattr(show, "SECONDS_BETWEEN_UPDATES", 0.01)
    map_shards("lines", waits_for_a_look, write_shards(tmp_path, 4), tmp_path / "out", tmp_path / "progress", workers=1)
    assert (2, 4) in said and said[-1] == (4, 4) and said == sorted(said)


def test_finished_shards_are_not_done_again(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, 5)

    def dies_on_the_third(shard: Path, out: Path, index: int) -> Counts:
        if index == 3:
            raise KeyboardInterrupt
        return count_lines(shard, out, index)

    with pytest.raises(KeyboardInterrupt):
        map_shards("lines", dies_on_the_third, shards, tmp_path / "out", tmp_path / "progress", workers=1)
    counts = map_shards("lines", count_lines, shards, tmp_path / "out", tmp_path / "progress", workers=1)
    assert counts.documents_in == 15
    assert all(path.read_text() == "x" for path in (tmp_path / "out").iterdir())


def test_counts_that_do_not_add_up_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 documents in, but 2 accounted for"):
        map_shards("x", lambda shard, out, index: Counts(3, 2), write_shards(tmp_path, 1), tmp_path / "o", tmp_path / "p", workers=1)
