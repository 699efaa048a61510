"""Runs a filter or a label over one shard: reads it, calls the function, writes what it returns, whole or not at all.

Everything is picklable, paths in and counts out, so that tasks map these over shards in threads, processes or on a
cluster. Part `index` of every output belongs to part `index` of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA, PAGE_SCHEMA, Counts, Decided
from data.settings import Settings
from data.shards import read_shard, shard_name, write_shard

Filter = Callable[..., Decided]  # (table, settings, **inputs)
Label = Callable[..., pa.Table]  # (table, settings, **inputs): one row per document, same order
Door = Callable[[Callable[..., Any], Path, Path, int, Settings, Mapping[str, Any] | None], Counts]  # run_filter, run_label


def run_filter(
    function: Filter, shard: Path, out: Path, index: int, settings: Settings, inputs: Mapping[str, Any] | None = None
) -> Counts:
    """Write out/documents/part-<index>, out/dropped/part-<index> and, where the filter measures, out/labels/.

    Raises ValueError where rows do not add up or a schema is wrong.
    """
    table = read_shard(shard)
    decided = function(table, settings, **(inputs or {}))
    counts = decided.counts()
    if counts.documents_in != table.num_rows:
        raise ValueError(f"{shard}: {table.num_rows} documents in, {counts.documents_in} accounted for")
    if not decided.kept.schema.equals(PAGE_SCHEMA) and not decided.kept.schema.equals(DOCUMENT_SCHEMA):
        raise ValueError(f"{shard}: kept rows are neither pages nor documents: {decided.kept.schema}")
    if not decided.dropped.schema.equals(DROPPED_SCHEMA):
        raise ValueError(f"{shard}: dropped rows have another schema: {decided.dropped.schema}")
    if decided.labels is not None:
        _write_labels(decided.labels, decided.kept, out, index)
    write_shard(out / "dropped" / shard_name(index), decided.dropped)
    write_shard(out / "documents" / shard_name(index), decided.kept)
    return counts


def run_label(
    function: Label,
    shard: Path,
    out: Path,
    index: int,
    settings: Settings,
    inputs: Mapping[str, Any] | None = None,
    columns: list[str] | None = None,
) -> Counts:
    """Write out/labels/part-<index>; where the function needs some `columns` alone, only these are read.

    Raises ValueError unless there is one row per document, in the same order.
    """
    table = read_shard(shard, columns)
    _write_labels(function(table, settings, **(inputs or {})), table, out, index)
    return Counts(table.num_rows, table.num_rows)


def _write_labels(labels: pa.Table, documents: pa.Table, out: Path, index: int) -> None:
    if not labels["id"].combine_chunks().equals(documents["id"].combine_chunks()):
        raise ValueError("labels and documents differ in their ids")
    write_shard(out / "labels" / shard_name(index), labels)
