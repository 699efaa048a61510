"""Pages collected into shards of bounded size as they are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from data.document import DROPPED_SCHEMA, PAGE_SCHEMA, Counts, content_id
from data.shards import shard_name, write_shard
from data.text import clean_text

_MAX_URL = 4096  # characters kept of a URL
_MAX_VALUE = 500


@dataclass(frozen=True)
class Page:
    """One record on its way in; `reason` where it is dropped."""

    source: str
    url: str | None = None
    date: str | None = None
    text: str | None = field(default=None, repr=False)
    html: bytes | None = field(default=None, repr=False)
    charset: str | None = None
    reason: str | None = None
    value: str | None = None

    def drop(self, reason: str, value: str | None) -> Page:
        return replace(self, reason=reason, value=value)

    def with_text(self, text: str) -> Page:
        text = clean_text(text).strip()
        return replace(self, text=text) if text else self.drop("empty_record", None)

    def with_html(self, html: bytes, charset: str) -> Page:
        return replace(self, html=html, charset=charset)

    def row(self) -> dict[str, str | bytes | None]:
        url = clean_text(self.url)[:_MAX_URL] if self.url else None
        payload = self.html if self.html is not None else (self.text or "").encode()
        if self.reason and not payload:
            payload = self.source.encode("utf-8", "surrogatepass")  # nothing was read: its place tells it from the others
        row: dict[str, str | bytes | None] = {
            "id": content_id(url, payload),
            "url": url,
            "date": self.date,
            "source": clean_text(self.source),
            "lang": None,
            "text": self.text,
        }
        if self.reason is None:
            row.update(html=self.html, charset=self.charset)
        else:
            row.update(reason=self.reason, value=clean_text(self.value)[:_MAX_VALUE] if self.value else None)
        return row


class PageWriter:
    """Writes out/documents/ and out/dropped/, part i of both together, and keeps count.

    At least one part of each is written, so that a file without documents still leaves its schema.
    """

    def __init__(self, out: Path, max_bytes: int, max_documents: int) -> None:
        self._out = out
        self._max_bytes = max_bytes
        self._max_documents = max_documents
        self._kept: list[dict[str, str | bytes | None]] = []
        self._dropped: list[dict[str, str | bytes | None]] = []
        self._bytes = 0
        self.parts = 0  # written so far
        self._counts = Counts()

    def add(self, page: Page) -> None:
        self._counts.documents_in += 1
        if page.reason is None:
            self._counts.kept += 1
            self._kept.append(page.row())
            self._bytes += len(page.html or b"") + len((page.text or "").encode())
        else:
            self._counts.dropped[page.reason] = self._counts.dropped.get(page.reason, 0) + 1
            self._dropped.append(page.row())
        full = len(self._kept) + len(self._dropped) >= self._max_documents
        if full or self._bytes >= self._max_bytes:
            self._write()

    def close(self) -> Counts:
        if self._kept or self._dropped or not self.parts:
            self._write()
        self._counts.check()
        return self._counts

    def _write(self) -> None:
        name = shard_name(self.parts)
        write_shard(self._out / "documents" / name, pa.Table.from_pylist(self._kept, PAGE_SCHEMA))
        write_shard(self._out / "dropped" / name, pa.Table.from_pylist(self._dropped, DROPPED_SCHEMA))
        self._kept, self._dropped, self._bytes = [], [], 0
        self.parts += 1
