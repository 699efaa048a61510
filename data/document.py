"""The one record that travels through every room of the corpus half, as Arrow tables.

A *page* is a document that still carries its bytes (`html`) or, for sources that are text already, its `text`.
Extraction turns pages into *documents*: `html` is gone, `text` is never null.
Dropped records keep every column but `html` and gain `reason` (snake_case, stable: people filter by it)
and `value` (what was measured, as text, or null).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DOCUMENT_FIELDS: list[pa.Field[Any]] = [
    pa.field("id", pa.string(), nullable=False),  # content id, see `content_id`
    pa.field("url", pa.string()),  # as crawled; normalised by the URL filter; null where the source has none
    pa.field("date", pa.string()),  # ISO 8601, UTC, as the crawl says; null where it does not
    pa.field("source", pa.string(), nullable=False),  # input file, relative to the corpus, and place in it: "a.warc.gz#4711" (data.corpus.reading.chunks.Place)
    pa.field("lang", pa.string()),  # ISO 639-1/3 as the language stage says; null before it
    pa.field("text", pa.string()),  # Unicode text; null only in pages that carry html
]
DOCUMENT_SCHEMA = pa.schema(DOCUMENT_FIELDS)
PAGE_SCHEMA = pa.schema([*DOCUMENT_FIELDS, pa.field("html", pa.binary()), pa.field("charset", pa.string())])
DROPPED_SCHEMA = pa.schema(
    [*DOCUMENT_FIELDS, pa.field("reason", pa.string(), nullable=False), pa.field("value", pa.string())]
)


def label_schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """Schema of a label table: `id`, then one column per label."""
    return pa.schema([DOCUMENT_FIELDS[0], *(pa.field(name, kind) for name, kind in columns.items())])


def values(table: pa.Table, name: str) -> list[Any]:
    """One column as Python values."""
    return table[name].to_pylist()


def views(table: pa.Table, name: str) -> list[memoryview | None]:
    """One column of bytes or text as views of its memory, of text in UTF-8: Arrow copies a value that it gives, and decodes it."""
    found: list[memoryview | None] = []
    for chunk in table[name].chunks:
        if len(chunk):
            _, offsets, data = chunk.buffers()
            ends = np.frombuffer(memoryview(offsets or b""), np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
            whole = memoryview(data or b"")
            found += [whole[start:end] if valid else None for start, end, valid in zip(ends, ends[1:], chunk.is_valid().to_pylist(), strict=False)]
    return found


def text_array(texts: Sequence[memoryview]) -> pa.Array:
    """A column of texts from their UTF-8. Raises pa.ArrowInvalid where they have more than 2 GB."""
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(texts))).cast(pa.string())


def id_bytes(table: pa.Table, name: str = "id") -> NDArray[np.bytes_]:
    """A column of ids as 32 bytes each, to be sorted and joined by."""
    return np.array(values(table, name), dtype="S32")


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

    Rows add up: table in = kept + dropped. `labels`, where a filter measures as well, has one row per kept row,
    in the same order: `id` and label columns.
    """

    kept: pa.Table
    dropped: pa.Table
    labels: pa.Table | None = None

    def counts(self) -> Counts:
        reasons = Counter(values(self.dropped, "reason"))
        return Counts(self.kept.num_rows + self.dropped.num_rows, self.kept.num_rows, dict(sorted(reasons.items())))


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


Verdict = tuple[str, str | None]  # why a row is dropped: reason and measured value


def decide(table: pa.Table, verdicts: Sequence[Verdict | None]) -> Decided:
    """Split `table` by one verdict per row; None = kept."""
    if len(verdicts) != table.num_rows:
        raise ValueError(f"{len(verdicts)} verdicts for {table.num_rows} documents")
    given = [verdict for verdict in verdicts if verdict is not None]
    if not given:  # nothing to copy
        return Decided(table, DROPPED_SCHEMA.empty_table())
    kept = pa.array([verdict is None for verdict in verdicts], pa.bool_())
    dropped = table.select([f.name for f in DOCUMENT_FIELDS]).filter(pc.invert(kept))
    dropped = dropped.append_column("reason", pa.array([reason for reason, _ in given], pa.string()))
    dropped = dropped.append_column("value", pa.array([value for _, value in given], pa.string()))
    return Decided(_without(table, verdicts) if "html" in table.schema.names else table.filter(kept), dropped.cast(DROPPED_SCHEMA))


def _without(pages: pa.Table, verdicts: Sequence[Verdict | None]) -> pa.Table:
    """The kept rows as what lies between the dropped ones: pages are large, and are not copied."""
    gone = [row for row, verdict in enumerate(verdicts) if verdict is not None]
    spans = zip([0, *(row + 1 for row in gone)], [*gone, len(verdicts)], strict=True)
    return pa.concat_tables([pages.slice(start, end - start) for start, end in spans])
