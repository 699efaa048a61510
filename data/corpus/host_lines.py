"""Lines that many documents of one host share: chrome that no pattern knows."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from data.document import values
from data.settings import LineSettings
from data.shards import read_shard, write_shard

_PARTITION_LINES = 20_000_000  # distinct (document, line) pairs counted at once


def host_of(url: str | None) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.") if url else ""
    except ValueError:
        return ""


def line_key(host: str, line: str) -> int:
    """63-bit key of a host's line."""
    digest = hashlib.blake2b(f"{host}\n{line}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def find_host_lines(shards: list[Path], out: Path, settings: LineSettings) -> None:
    """Write to `out` (Parquet: key) the keys of lines that stand in `host_repeats` or more documents of a host.

    Independent of order and shards. Keys are counted in partitions, so memory is bounded.
    """
    found: list[np.ndarray] = []
    partition, partitions = 0, 1
    while settings.host_repeats and partition < partitions:
        keys: list[np.ndarray] = []
        size = 0
        for shard in shards:
            part = _keys(shard)
            part = part[part % partitions == partition] if partitions > 1 else part
            keys.append(part)
            size += len(part)
            if size > _PARTITION_LINES:
                break
        if size > _PARTITION_LINES:  # start again with smaller partitions
            partition, partitions, found = 0, partitions * 2, []
            continue
        values, counts = np.unique(np.concatenate(keys), return_counts=True) if keys else (np.zeros(0, np.int64),) * 2
        found.append(values[counts >= settings.host_repeats])
        partition += 1
    merged = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
    write_shard(out, pa.table({"key": pa.array(merged, pa.int64())}))


def _keys(shard: Path) -> np.ndarray:
    table = read_shard(shard, ["url", "text"])
    keys: list[int] = []
    for url, text in zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True):
        if host := host_of(url):
            keys += {line_key(host, stripped) for line in (text or "").split("\n") if (stripped := line.strip())}
    return np.array(keys, dtype=np.int64)


@lru_cache(maxsize=2)
def read_host_lines(path: Path) -> frozenset[int]:
    return frozenset(values(read_shard(path), "key"))
