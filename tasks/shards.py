"""Work mapped over groups of shards: paths in, counts out; a shard that is done is not done again after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data.document import Counts
from tasks.groups import Group, ShardWork, work_on
from tasks.worker_processes import run_in_worker

# A task run costs Prefect some 90 ms on a cluster, so a run gets a group of shards. Four groups a worker
# keep the workers evenly busy without making thousands of runs of thousands of shards.
GROUPS_PER_WORKER = 4


def map_shards(stage: str, work: ShardWork, shards: Sequence[Any], out: Path, progress: Path, workers: int) -> Counts:
    """Run `work` on every shard, by groups as task runs of the flow's task runner; add up the counts.

    `progress` keeps one small file per finished shard. `out` must survive a kill together with it. A cluster that has lost
    sight of a worker may run a group twice at the same time: so `work` writes each of its files whole, and the same again.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress.mkdir(parents=True, exist_ok=True)
    numbered = list(enumerate(shards))
    count = max(1, min(len(numbered), workers * GROUPS_PER_WORKER))
    groups = [numbered[start::count] for start in range(count)]
    if workers == 1 or count == 1:
        return sum((work_on(work, group, out, progress) for group in groups), Counts())
    futures = [
        work_on_group.with_options(task_run_name=f"{stage} · group {number + 1} of {count}").submit(work, group, str(out), str(progress))
        for number, group in enumerate(groups)
    ]
    return sum((future.result() for future in futures), Counts())


@task(cache_policy=NO_CACHE)
def work_on_group(work: ShardWork, group: Group, out: str, progress: str) -> Counts:
    return run_in_worker(work_on, work, group, Path(out), Path(progress))
