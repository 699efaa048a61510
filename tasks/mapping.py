"""A function of data/corpus mapped over the shards of an artifact: what every mapped stage has in common."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.schemas import State

from data.corpus.shard_work import Door
from data.document import Counts
from data.places import link_file
from data.settings import Settings
from data.shards import list_shards
from tasks.groups import EachShard, work_on_shard
from tasks.shards import map_shards
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Files, Result

KINDS_OF_FILES = ("documents", "dropped", "labels")


Prepare = Callable[[list[Path], Path], Mapping[str, Any]]  # (shards, work): sees all shards first; more inputs by name


def mapped(
    run: Run,
    stage: str,
    version: int,
    documents: Made,
    door: Door,
    function: Callable[..., Any],
    settings: Settings,
    *,
    prepare: Prepare | None = None,
    beside: Mapping[str, Made] | None = None,
    files: Mapping[str, Files] | None = None,
) -> State[Made]:
    """Map `function` over the shards of `documents` through its door (run_filter or run_label), and publish what came out.

    `beside` are label artifacts, whose shard of the same name the function reads along with each shard. `files` are inputs from outside
    that `prepare` or the settings name.
    """
    beside = beside or {}

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        inputs = dict(prepare(shards, draft.work)) if prepare else {}
        inputs |= {name: EachShard(run.local(made.artifact) / "labels") for name, made in beside.items()}
        work = partial(work_on_shard, door=door, function=function, settings=settings, inputs=inputs)
        parts = draft.work / "parts"
        counts = map_shards(stage, work, shards, parts, draft.work / "done", run.workers)
        for kind in KINDS_OF_FILES:
            if (parts / kind).exists():
                link(parts / kind, draft.out / kind)
        return result_of(counts)

    return make(run, stage, version, settings, {"documents": documents, **beside, **(files or {})}, build)


def link(source: Path, target: Path) -> None:
    """The folder `source` also as `target`. Not moved: a stage killed here finds its finished shards again."""
    shutil.copytree(source, target, copy_function=link_file, dirs_exist_ok=True)


def result_of(counts: Counts, metrics: Mapping[str, Any] | None = None) -> Result:
    counts.check()
    return Result({"documents_in": counts.documents_in, "kept": counts.kept, "dropped": dict(sorted(counts.dropped.items()))}, metrics or {})
