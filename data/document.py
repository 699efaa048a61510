"""The one record that travels through every room of the corpus half, as Arrow tables.

A *page* is a document that still carries its bytes (`html`) or, for sources that are text already, its `text`.
Extraction turns pages into *documents*: `html` is gone, `text` is never null.
Dropped records keep every column but `html` and gain `reason` (snake_case, stable: people filter by it)
and `value` (what was measured, as text, or null).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

DOCUMENT_FIELDS = [
    pa.field("id", pa.string(), nullable=False),  # content id, see `content_id`
    pa.field("url", pa.string()),  # as crawled; normalised by the URL filter; null where the source has none
    pa.field("date", pa.string()),  # ISO 8601, UTC, as the crawl says; null where it does not
    pa.field("source", pa.string(), nullable=False),  # input file, relative to the corpus, and record: "a.warc.gz#17"
    pa.field("lang", pa.string()),  # ISO 639-1/3 as the language stage says; null before it
    pa.field("text", pa.string()),  # Unicode text; null only in pages that carry html
]
DOCUMENT_SCHEMA = pa.schema(DOCUMENT_FIELDS)
PAGE_SCHEMA = pa.schema([*DOCUMENT_FIELDS, pa.field("html", pa.binary()), pa.field("charset", pa.string())])
DROPPED_SCHEMA = pa.schema(
    [*DOCUMENT_FIELDS, pa.field("reason", pa.string(), nullable=False), pa.field("value", pa.string())]
)


def content_id(url: str | None, payload: bytes) -> str:
    """Stable id of a record: 32 hex digits of BLAKE2b over the URL and the payload bytes.

    Depends on nothing but the content: not on the file, the shard, the process or the order of records.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update((url or "").encode("utf-8", "surrogatepass"))
    digest.update(b"\0")
    digest.update(payload)
    return digest.hexdigest()


@dataclass(frozen=True)
class Decided:
    """What a filter returns for one shard: `kept` (its own schema) and `dropped` (DROPPED_SCHEMA).

    Rows add up: table in = kept + dropped.
    """

    kept: pa.Table
    dropped: pa.Table


@dataclass
class Counts:
    """Documents in = kept + sum(dropped). Adds up over shards with `+`."""

    documents_in: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        dropped = dict(self.dropped)
        for reason, count in other.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        return Counts(self.documents_in + other.documents_in, self.kept + other.kept, dropped)

    def check(self) -> None:
        """Raise ValueError unless every document is accounted for."""
        accounted = self.kept + sum(self.dropped.values())
        if accounted != self.documents_in:
            raise ValueError(f"{self.documents_in} documents in, but {accounted} accounted for")


def drop(table: pa.Table, mask: pa.BooleanArray, reasons: list[str], values: list[str | None]) -> Decided:
    """Split `table` by `mask` (True = dropped); `reasons` and `values` have one entry per dropped row, in order."""
    import pyarrow.compute as pc

    dropped = table.filter(mask).select([f.name for f in DOCUMENT_FIELDS])
    dropped = dropped.append_column(DROPPED_SCHEMA.field("reason"), pa.array(reasons, pa.string()))
    dropped = dropped.append_column(DROPPED_SCHEMA.field("value"), pa.array(values, pa.string()))
    return Decided(table.filter(pc.invert(mask)), dropped.cast(DROPPED_SCHEMA))
