"""Rows of many shards written in the order of their ids, in shards of a fixed size: bytes that depend on rows alone.

Rows are first dealt into parts by ranges of ids, each small enough to be sorted in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.shards import list_shards, read_shard, shard_name, write_shard

_PART_BYTES = 128 << 20  # compressed bytes of input that one part holds at most, about

Output = tuple[Path, pa.Schema, NDArray[np.bytes_]]  # folder, schema, ids of all rows to come (any order)


def write_sorted(
    shards: int,
    read: Callable[[int], Sequence[pa.Table]],
    outputs: Sequence[Output],
    shard_rows: int,
    total_bytes: int,
    part_bytes: int = _PART_BYTES,
) -> None:
    """Write each output's rows sorted by id, then source where they have one, `shard_rows` to a shard; at least one each.

    `read(i)` gives input shard i's rows, one table per output.
    """
    parts = max(1, -(-total_bytes // part_bytes))
    borders = [_borders(np.sort(ids), parts, shard_rows) for _, _, ids in outputs]
    dealt: list[list[list[pa.Table]]] = [[[] for _ in range(len(border) + 1)] for border in borders]
    spill = parts > 1
    for folder, _, _ in outputs:
        shutil.rmtree(folder, ignore_errors=True)
    for shard in range(shards):
        for (folder, _, _), border, held, table in zip(outputs, borders, dealt, read(shard), strict=True):
            ids = np.array(table["id"].to_pylist(), dtype="S32")
            part_of = np.searchsorted(border, ids, side="right")
            for part in np.unique(part_of).tolist():
                rows = table.filter(pa.array(part_of == part))
                if spill:
                    write_shard(_spilled(folder, part) / shard_name(shard), rows)
                else:
                    held[part].append(rows)
    for (folder, schema, _), border, held in zip(outputs, borders, dealt, strict=True):
        written = 0
        for part in range(len(border) + 1):
            tables = [read_shard(path) for path in list_shards(_spilled(folder, part))] if spill else held[part]
            rows = pa.concat_tables([schema.empty_table(), *tables])
            rows = rows.sort_by([(name, "ascending") for name in ("id", "source") if name in schema.names])
            held[part] = []
            for at in range(0, rows.num_rows, shard_rows):
                write_shard(folder / shard_name(written), rows.slice(at, shard_rows).combine_chunks())
                written += 1
        if not written:
            write_shard(folder / shard_name(0), schema.empty_table())
        shutil.rmtree(folder / ".parts", ignore_errors=True)


def _spilled(folder: Path, part: int) -> Path:
    return folder / ".parts" / f"{part:05d}"


def _borders(ids: NDArray[np.bytes_], parts: int, shard_rows: int) -> NDArray[np.bytes_]:
    """Ids that begin a new part; only ids that begin a shard, so that no shard is cut short."""
    starts = ids[::shard_rows][1:]
    chosen = [start for start in starts[:: max(1, -(-(len(starts) + 1) // parts))] if start]
    return np.array(chosen, dtype="S32")
