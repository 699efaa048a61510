"""What worker processes run: one shard, and a group of shards. No Prefect here, so that no worker waits for its imports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpus.shard_work import Door
from data.document import Counts
from data.settings import Settings
from data.shards import write_note

# (shard, folder that gets its outputs, index of the shard). A shard is a path, or for ingest an input file.
ShardWork = Callable[[Any, Path, int], Counts]
Group = Sequence[tuple[int, Any]]  # shards with their indexes


@dataclass(frozen=True)
class EachShard:
    """An input of which each shard gets its own part: the file of the same name in `folder`."""

    folder: Path


def work_on_shard(
    shard: Path, out: Path, index: int, door: Door, function: Callable[..., Any], settings: Settings, inputs: Mapping[str, Any]
) -> Counts:
    own = {name: given.folder / shard.name if isinstance(given, EachShard) else given for name, given in inputs.items()}
    return door(function, shard, out, index, settings, own)


def work_on(work: ShardWork, group: Group, out: Path, progress: Path) -> Counts:
    """Run `work` on the shards of a group that are not done yet; add up the counts of all."""
    total = Counts()
    for index, shard in group:
        done = progress / f"{index:05d}.json"
        if done.exists():
            counts = Counts(**json.loads(done.read_text(encoding="utf-8")))
        else:
            counts = work(shard, out, index)
            counts.check()
            write_note(done, json.dumps(dataclasses.asdict(counts)))
        total += counts
    return total
