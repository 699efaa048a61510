"""Work mapped over shards as task runs: paths in, counts out; a shard that is done is not done again after a kill."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from data.document import Counts
from tasks import show
from tasks.groups import Group, ShardWork, work_on
from tasks.worker_processes import run_in_worker

# A task run costs Prefect some 90 ms, so one of a cluster gets a group of shards: four groups a worker keep the workers
# evenly busy without making thousands of runs of thousands of shards.
GROUPS_PER_WORKER = 4


class Waiting:
    """Shards of which the runs on one machine take the next whenever they are free."""

    def __init__(self, shards: Iterable[tuple[int, Any]]) -> None:
        self._shards = deque(shards)  # its methods are atomic

    def take(self) -> Group:
        """The next shard; none when all are taken, or given up."""
        try:
            return [self._shards.popleft()]
        except IndexError:
            return []

    def give_up(self) -> None:
        self._shards.clear()


def map_shards(stage: str, work: ShardWork, shards: Sequence[Any], out: Path, progress: Path, workers: int) -> Counts:
    """Run `work` on every shard by task runs of the flow's task runner; add up the counts.

    On one machine there is a run a worker; on a cluster, which knows no common list, a run a group. `progress` keeps one small file
    per finished shard. `out` must survive a kill together with it. A cluster that has lost sight of a worker may run a group twice
    at the same time: so `work` writes each of its files whole, and the same again.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress.mkdir(parents=True, exist_ok=True)
    numbered = sorted(enumerate(shards), key=lambda shard: -_size(shard[1]))  # the largest first: none is left over at the end
    flow = FlowRunContext.get()
    on_one_machine = flow is None or isinstance(flow.task_runner, ThreadPoolTaskRunner)
    runs = max(1, min(len(numbered), workers if on_one_machine else workers * GROUPS_PER_WORKER))
    with _ring(stage, len(numbered), progress):
        if workers == 1 or runs == 1:
            return work_on(work, numbered, out, progress)
        if on_one_machine:
            waiting = Waiting(numbered)
            named = (work_on_waiting.with_options(task_run_name=f"{stage} · worker {number + 1} of {runs}") for number in range(runs))
            futures = [run.submit(work, waiting, str(out), str(progress)) for run in named]
        else:
            groups = [numbered[start::runs] for start in range(runs)]
            futures = [
                work_on_group.with_options(task_run_name=f"{stage} · group {number + 1} of {runs}").submit(work, group, str(out), str(progress))
                for number, group in enumerate(groups)
            ]
        return sum((future.result() for future in futures), Counts())


@contextmanager
def _ring(stage: str, shards: int, progress: Path) -> Iterator[None]:
    """The stage's ring in the UI: shards that are finished, by the small files that they leave, whoever works on them. A stage that is
    over before the first look shows none."""
    ended, ring = threading.Event(), show.Progress(stage)

    def look() -> None:
        while not ended.wait(show.SECONDS_BETWEEN_UPDATES):
            ring.count(sum(1 for _ in progress.glob("*.json")), shards, "shards")
        if ring.id:
            ring.count(sum(1 for _ in progress.glob("*.json")), shards, "shards")

    looking = threading.Thread(target=copy_context().run, args=(look,), daemon=True, name=f"ring of {stage}")  # it knows the stage's task run
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _size(shard: Any) -> int:
    """Bytes of a shard; 0 where it is an input that may lie elsewhere: those keep their order."""
    return shard.stat().st_size if isinstance(shard, Path) else 0


@task(cache_policy=NO_CACHE)
def work_on_waiting(work: ShardWork, waiting: Waiting, out: str, progress: str) -> Counts:
    _quieten()
    total = Counts()
    try:
        while group := waiting.take():
            total += run_in_worker(work_on, work, group, Path(out), Path(progress))
    except BaseException:
        waiting.give_up()  # the others would go on with a stage that has failed
        raise
    return total


@task(cache_policy=NO_CACHE)
def work_on_group(work: ShardWork, group: Group, out: str, progress: str) -> Counts:
    _quieten()
    return work_on(work, group, Path(out), Path(progress))


def _quieten() -> None:
    logging.getLogger("prefect.task_runs").addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not that one of a stage's many runs has ended well: the stage itself says so, and what came of it."""
    by = getattr(record, "task_name", None)
    return by not in (work_on_waiting.name, work_on_group.name) or record.levelno > logging.INFO or "Completed" not in record.getMessage()
