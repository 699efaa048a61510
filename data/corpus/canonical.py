"""Rows of many shards written in the order of their ids, in shards of a fixed size: bytes that depend on rows alone.

An external sort: rows are dealt into parts by ranges of ids, on disk, each small enough to be sorted in memory. In memory
are one input shard, then one part or one output shard, whichever is larger. A corpus that is one part is not dealt.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.document import id_bytes
from data.shards import shard_name, write_shard

_PART_BYTES = 64 << 20  # of rows in memory; sorting needs as much again
_SAMPLED = 200  # ids of a part that its borders are found by: parts differ in size by a tenth, and hardly one by half
_PARTS = ".parts"
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")  # parts are written and read once

Output = tuple[Path, pa.Schema]  # folder, schema


def part_borders(ids: NDArray[np.bytes_], total_bytes: int, part_bytes: int | None = None) -> NDArray[np.bytes_]:
    """Ids, sorted, that cut the rows of `ids` (all of them or a sample), which take `total_bytes` in memory, into parts."""
    parts = _parts(total_bytes, part_bytes)
    return np.sort(ids)[np.arange(1, parts) * len(ids) // parts]


def sample_step(rows: int, total_bytes: int) -> int:
    """Of how many rows one is enough for `part_borders`."""
    return max(1, rows // (_SAMPLED * _parts(total_bytes)))


def _parts(total_bytes: int, part_bytes: int | None = None) -> int:
    return max(1, -(-total_bytes // (part_bytes or _PART_BYTES)))


def write_sorted(
    shards: int, read: Callable[[int], Sequence[pa.Table]], outputs: Sequence[Output], borders: NDArray[np.bytes_], shard_rows: int
) -> None:
    """Write each output's rows sorted by id, then source where they have one, `shard_rows` to a shard; at least one each.

    `read(i)` gives input shard i's rows, one table per output. `borders` say what is sorted together, not what comes out.
    """
    for folder, _ in outputs:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if not len(borders):
        tables = [read(shard) for shard in range(shards)]
        for number, (folder, schema) in enumerate(outputs):
            _write_shards(folder, schema, [[table[number] for table in tables]], shard_rows)
        return
    for folder, _ in outputs:
        (folder / _PARTS).mkdir()
    for shard in range(shards):
        for (folder, _), table in zip(outputs, read(shard), strict=True):
            part_of = np.searchsorted(borders, id_bytes(table), side="right")
            for part in np.unique(part_of).tolist():
                _append(_part(folder, part), table.filter(pa.array(part_of == part)))
    for folder, schema in outputs:
        _write_shards(folder, schema, (_tables(_part(folder, part)) for part in range(len(borders) + 1)), shard_rows)
        shutil.rmtree(folder / _PARTS)


def _write_shards(folder: Path, schema: pa.Schema, parts: Iterable[Iterable[pa.Table]], shard_rows: int) -> None:
    """Write `parts`, which follow each other, sorted."""
    by: list[tuple[str, Literal["ascending", "descending"]]] = [(name, "ascending") for name in ("id", "source") if name in schema.names]
    written, rest = 0, schema.empty_table()
    for part in parts:
        rows = pa.concat_tables([rest, *part]).sort_by(by)
        whole = rows.num_rows - rows.num_rows % shard_rows
        for at in range(0, whole, shard_rows):
            write_shard(folder / shard_name(written), rows.slice(at, shard_rows).combine_chunks())
            written += 1
        rest = rows.slice(whole)  # it begins the next part's first shard
    if rest.num_rows or not written:
        write_shard(folder / shard_name(written), rest.combine_chunks())


def _part(folder: Path, part: int) -> Path:
    return folder / _PARTS / f"{part:05d}"


def _append(path: Path, rows: pa.Table) -> None:
    """One more stream at the end of a file: one file a part, however many shards there are, and none kept open."""
    with path.open("ab") as file, pa.ipc.new_stream(file, rows.schema, options=_COMPRESSED) as stream:
        stream.write_table(rows)


def _tables(path: Path) -> Iterator[pa.Table]:
    """What was appended to a part."""
    if not path.exists():
        return
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            yield pa.ipc.open_stream(file).read_all()
