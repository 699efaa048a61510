"""Lines that many documents of one host share: chrome that no pattern knows.

Each line is a number (`host_line_keys`, shard by shard); the numbers are dealt into partitions, one pass over all of them, and
counted there, so that memory is bounded by a partition.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.partitions import deal
from data.corpus.url.form import host_of
from data.document import label_schema, values
from data.settings import LineSettings
from data.shards import read_shard, write_shard
from data.unchanged import kept_while_unchanged

_PARTITION_LINES = 10_000_000  # 8 bytes each, and as much again some three times while they are counted
LINE_KEYS_SCHEMA = label_schema({"lines": pa.list_(pa.int64())})


def site_of(url: str | None) -> str:
    """Whose lines are counted together: the host of a normalised URL without its www; "" where there is none."""
    return host_of(url or "").removeprefix("www.")


def line_key(host: str, line: str) -> int:
    """63-bit key of a host's line."""
    digest = hashlib.blake2b(f"{host}\n{line}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def host_line_keys(documents: pa.Table, settings: LineSettings) -> pa.Table:
    """The keys of each document's different lines (LINE_KEYS_SCHEMA); none where no URL names a host."""
    keys: list[list[int]] = []
    for url, text in zip(values(documents, "url"), values(documents, "text"), strict=True):
        lines = {stripped for line in (text or "").split("\n") if (stripped := line.strip())} if (host := site_of(url)) else set()
        keys.append(sorted(line_key(host, line) for line in lines))
    return pa.table([documents["id"].combine_chunks(), pa.array(keys, pa.list_(pa.int64()))], schema=LINE_KEYS_SCHEMA)


def find_host_lines(keys: Sequence[Path], out: Path, settings: LineSettings, partition_lines: int = _PARTITION_LINES) -> None:
    """Write to `out` (Parquet: key) the keys of lines that stand in `host_repeats` or more documents of a host, in order.

    `keys` are shards of `host_line_keys`; none where `host_repeats` is 0. The result depends on neither order nor shards.
    """
    partitions = max(1, -(-sum(map(_lines, keys)) // partition_lines))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as folder:
        # By its upper half: what is found in one partition after the other is in order.
        deal(map(_keys, keys), Path(folder) / "lines", partitions, lambda part: (part >> 31) * partitions >> 32)
        found = [_repeated(np.fromfile(Path(folder) / f"lines-{number}", np.int64), settings.host_repeats) for number in range(partitions)]
    write_shard(out, pa.table({"key": pa.array(np.concatenate(found), pa.int64())}))


def _lines(shard: Path) -> int:
    """About how many keys a shard has, from its footer: those without a line count as well."""
    metadata = pq.read_metadata(shard)
    return sum(metadata.row_group(group).column(1).num_values for group in range(metadata.num_row_groups))


def _keys(shard: Path) -> NDArray[np.int64]:
    return pc.list_flatten(read_shard(shard, ["lines"])["lines"].combine_chunks()).to_numpy()


def _repeated(keys: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    found, counts = np.unique(keys, return_counts=True)
    return found[counts >= least]


@kept_while_unchanged(2)
def read_host_lines(path: Path) -> NDArray[np.int64]:
    """The keys, rising: 8 bytes each."""
    keys: NDArray[np.int64] = read_shard(path)["key"].to_numpy()
    return keys


def stands_in(key: int, keys: NDArray[np.int64]) -> bool:
    """Whether `key` is one of `keys`, which rise."""
    at = int(np.searchsorted(keys, key))
    return at < len(keys) and int(keys[at]) == key
