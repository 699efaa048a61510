"""Parquet shards: written whole or not at all, listed in one order everywhere."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def shard_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def write_shard(path: Path, table: pa.Table) -> None:
    """Write `table` as zstd Parquet; a reader sees the old file, none, or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    # No two pages are the same: a dictionary of them is given up after a megabyte, and costs a quarter of writing, half of reading.
    dictionary: Any = [name for name in table.column_names if name != "html"] if "html" in table.column_names else True
    try:
        # No statistics and a fixed row-group size: the bytes depend on the rows (and the table's chunks) alone.
        pq.write_table(table, temporary, compression="zstd", row_group_size=2**14, write_statistics=False, use_dictionary=dictionary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_note(path: Path, text: str) -> None:
    """Write a small file; a reader sees none or the whole of it, and two writers at once do no harm."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """All of a shard or the named columns in their order. Raises KeyError for a column that it does not have."""
    with pq.ParquetFile(path) as file:  # read_table makes a data set of the file first, which costs more than a column
        table = file.read(columns=columns, use_threads=False)  # there is a process for each core already
    return table if columns is None else table.select(columns)


def read_known_columns(path: Path, wanted: Collection[str]) -> pa.Table:
    """Those of the `wanted` columns that a shard has, in its order."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=[name for name in file.schema_arrow.names if name in wanted], use_threads=False)


def decoded_bytes(path: Path) -> int:
    """What a shard's rows take in memory, about: the bytes of its columns before compression, as Parquet counts them."""
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def list_shards(folder: Path) -> list[Path]:
    """Shards of `folder` in the order of their numbers; an empty list where the folder is absent."""
    return sorted(folder.glob("part-*.parquet"), key=lambda shard: (len(shard.name), shard.name))  # also beyond 99999
