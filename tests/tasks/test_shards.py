"""Shards are mapped in groups, each done once, also after a kill."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data.document import Counts
from tasks.shards import map_shards
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


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.usefixtures("prefect_server")
def test_groups_add_up_in_threads_and_processes(tmp_path: Path, processes: int) -> None:
    shards = write_shards(tmp_path, 20)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
    def mapped() -> Counts:
        with worker_processes(processes) if processes else nullcontext():
            return map_shards("lines", count_lines, shards, tmp_path / "out", tmp_path / "progress", workers=2)

    assert mapped() == Counts(60, 40, {"first": 20})
    assert len(list((tmp_path / "out").iterdir())) == 20


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
