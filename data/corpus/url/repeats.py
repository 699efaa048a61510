"""Pages that were crawled twice, over the whole corpus.

Each page is five numbers (`url_keys`, shard by shard). They are dealt into partitions by the hash of the URL, one pass
over all of them, so that memory is bounded by a partition and time grows with the pages.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.partitions import deal
from data.corpus.url.form import normalise_url
from data.document import label_schema, values
from data.settings import UrlSettings
from data.shards import read_shard, shard_name, write_shard

_PARTITION_ROWS = 2_000_000  # 56 bytes each, and as much again some five times while they are sorted
_BUCKET_SHARDS = 512  # shards whose repeats are written together
READ = ["id", "url", "date", "source"]  # columns of a page that `url_keys` reads
_NUMBERS = ("key", "late", "id_high", "id_low", "source")  # the order of preference within a key
KEYS_SCHEMA = label_schema({name: pa.uint64() for name in _NUMBERS})
_REPEAT_FIELDS: list[pa.Field[Any]] = [pa.field("source", pa.uint64()), pa.field("reason", pa.string()), pa.field("value", pa.string())]
REPEATS_SCHEMA = pa.schema(_REPEAT_FIELDS)
_PAGE = np.dtype([(name, np.uint64) for name in _NUMBERS] + [("shard", np.uint32)])
_REPEAT = np.dtype([("shard", np.uint32), ("same", np.bool_), ("source", np.uint64), ("id_high", np.uint64), ("id_low", np.uint64)])
_NEVER = 99999999999999  # no date is later


def url_keys(pages: pa.Table, settings: UrlSettings) -> pa.Table:
    """What a page is compared by (KEYS_SCHEMA): a hash of its normalised URL, or of its id where it has none; how late
    it was crawled; its id as two numbers; a hash of its source.

    Two of three billion URLs share a 64-bit hash with a probability of one in four.
    """
    columns: list[list[int]] = [[] for _ in _NUMBERS]
    rows = zip(*(values(pages, name) for name in READ), strict=True)
    for page_id, url, date, source in rows:
        key = (url and (normalise_url(url) or url)) or "id:" + page_id
        when = int("".join(filter(str.isdigit, date))[:14]) if date else 0
        row = (text_hash(key), _NEVER - when, int(page_id[:16], 16), int(page_id[16:], 16), text_hash(source))
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return pa.table([pages["id"].combine_chunks(), *columns], schema=KEYS_SCHEMA)


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def find_repeats(keys: Sequence[Path], out: Path, partition_rows: int = _PARTITION_ROWS) -> None:
    """Write out/part-<index> for every shard of keys: REPEATS_SCHEMA, one row per page that repeats another (value = id
    of the page that stays).

    Of the pages of one normalised URL the latest stays, then the one with the smallest id, then the smallest hash of its
    source; so does one of several records with the same id. The result depends on neither order nor shards.
    """
    rows = sum(pq.read_metadata(shard).num_rows for shard in keys)
    partitions = max(1, -(-rows // partition_rows))
    buckets = max(1, -(-len(keys) // _BUCKET_SHARDS))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        work = Path(folder)
        deal(_pages(keys), work / "pages", partitions, lambda pages: (pages["key"] >> np.uint64(32)).astype(np.int64) * partitions >> 32)
        found = (_repeats(np.fromfile(work / f"pages-{number}", _PAGE)) for number in range(partitions))
        deal(found, work / "repeats", buckets, lambda repeats: repeats["shard"].astype(np.int64) // _BUCKET_SHARDS)
        for number in range(buckets):
            repeats = np.fromfile(work / f"repeats-{number}", _REPEAT)
            for shard in range(number * _BUCKET_SHARDS, min((number + 1) * _BUCKET_SHARDS, len(keys))):
                write_shard(out / shard_name(shard), _table(repeats[repeats["shard"] == shard]))


def _pages(keys: Sequence[Path]) -> Iterator[NDArray]:
    for number, shard in enumerate(keys):
        table = read_shard(shard, list(_NUMBERS))
        pages = np.empty(table.num_rows, _PAGE)
        for name in _NUMBERS:
            pages[name] = table[name].to_numpy()
        pages["shard"] = number
        yield pages


def _repeats(pages: NDArray) -> NDArray:
    """The repeats (_REPEAT) among the pages of one partition, in no order that depends on that of the pages."""
    pages = pages[np.lexsort([pages[name] for name in reversed(_NUMBERS)])]
    first = np.ones(len(pages), np.bool_)
    first[1:] = pages["key"][1:] != pages["key"][:-1]
    winners = pages[np.maximum.accumulate(np.where(first, np.arange(len(pages)), 0))]
    repeats = np.empty(len(pages), _REPEAT)
    repeats["shard"], repeats["source"] = pages["shard"], pages["source"]
    repeats["id_high"], repeats["id_low"] = winners["id_high"], winners["id_low"]
    repeats["same"] = (pages["id_high"] == winners["id_high"]) & (pages["id_low"] == winners["id_low"])
    return repeats[~first]


def _table(repeats: NDArray) -> pa.Table:
    repeats = repeats[np.argsort(repeats["source"])]
    reasons = np.where(repeats["same"], "repeated_content", "repeated_url")
    ids = [f"{high:016x}{low:016x}" for high, low in zip(repeats["id_high"].tolist(), repeats["id_low"].tolist(), strict=True)]
    columns = [pa.array(repeats["source"]), pa.array(reasons.tolist(), pa.string()), pa.array(ids, pa.string())]
    return pa.table(columns, schema=REPEATS_SCHEMA)
