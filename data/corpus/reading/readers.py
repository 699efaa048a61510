"""From input files to page shards: WARC, WET, ARC, HTML, JSON lines, Parquet, Hugging Face datasets.

Every record that claims to be a document (a response, a resource, a conversion, a row, a file) is kept or dropped
with a reason; requests, metadata and the like are passed over. What of a file cannot be read is one dropped record.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.corpus.reading import rows
from data.corpus.reading.archives import ArchiveRecord, Records, first_record
from data.corpus.reading.charset import decode, find_charset
from data.corpus.reading.chunks import BrokenStream
from data.corpus.reading.dates import iso_date
from data.corpus.reading.http import TooLarge, parse_response
from data.corpus.reading.inputs import InputFile, file_kind, looks_like_html, open_input
from data.corpus.reading.page_writer import Page, PageWriter
from data.corpus.reading.streams import ByteReader, open_chunks
from data.document import Counts
from data.settings import IngestSettings
from data.shards import list_shards, read_shard, write_note

_PAGE_TYPES = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")
_XML_TYPES = ("application/xml", "text/xml")  # of pages too, but more often of feeds and site maps
_CANONICAL = re.compile(rb"""<link[^>]{1,200}?rel=["']?canonical["']?[^>]{1,200}?href=["']?(https?://[^"'>\s]{1,2000})""", re.IGNORECASE)
_AFTER_TYPE = re.compile("[;,]")  # its parameters, or the same header once more
_ABOUT_CRAWL = re.compile(r"(?:metadata|dns|whois|warcinfo):", re.IGNORECASE)  # records of the crawler, not of the web
_SNIFFED_BYTES = 4096  # of what does not say that it is a page
_SEAM = "seam.json"
_NOWHERE = -1  # the start of a part in which no record starts


@dataclass
class Seam:
    """Where reading of an archive's part began and where the next part has to; offsets, None = at no record."""

    first: int | None = None
    stopped_at: int | None = None


def ingest_file(source: InputFile, out: Path, settings: IngestSettings) -> Counts:
    """Read `source` into out/documents/part-*.parquet (PAGE_SCHEMA) and out/dropped/part-*.parquet.

    Never raises for what the file holds; only for what the machine lacks (no such file, no space).
    """
    return _ingest(source, out, settings, start=None)


def ingest_part(source: InputFile, out: Path, index: int, settings: IngestSettings) -> Counts:
    """`ingest_file` into the folder of the source's number, as `join_parts` takes them."""
    return ingest_file(source, out / f"{index:05d}", settings)


def _ingest(source: InputFile, out: Path, settings: IngestSettings, start: int | None) -> Counts:
    seam = Seam()
    readers: dict[str, Callable[[], Iterator[Page]]] = {
        "warc": lambda: _archive(source, settings, seam, start),
        "arc": lambda: _archive(source, settings, seam, start),
        "html": lambda: _html_files(source, settings),
        "jsonl": lambda: rows.json_lines(source, settings),
        "parquet": lambda: rows.parquet(source, settings),
        "dataset": lambda: rows.dataset(source, settings),
    }
    writer = PageWriter(out, settings.shard_megabytes << 20, settings.shard_documents)
    for page in readers[source.kind]():
        writer.add(page)
    counts = writer.close()
    # Of an attempt that was killed, or on the wrong side of a seam. Only now: the same part may be read twice at once.
    for kind in ("documents", "dropped"):
        for shard in list_shards(out / kind)[writer.parts :]:
            shard.unlink(missing_ok=True)
    write_note(out / _SEAM, json.dumps({"seam": dataclasses.asdict(seam), "counts": dataclasses.asdict(counts)}))
    return counts


def join_parts(sources: Sequence[InputFile], folders: Sequence[Path], settings: IngestSettings) -> Counts:
    """Check that the parts of each archive meet, read again those that do not, and count all documents.

    A part begins at the first thing in its range that looks like a record. In a page that is an archive itself that
    may be no record of this one: then the part before it stops elsewhere, and the part is read from there.
    """
    total = Counts()
    expected: int | None = None
    for source, folder in zip(sources, folders, strict=True):
        seam, counts = _read_facts(folder) or (None, Counts())  # missing after a kill in the middle of this
        if not source.start or source.kind not in ("warc", "arc"):
            if seam is None:
                counts = _ingest(source, folder, settings, start=None)
                seam, _ = _read_facts(folder) or (Seam(), counts)
            expected = seam.stopped_at
        else:
            first = expected if expected is not None and (source.end is None or expected < source.end) else None
            if seam is None or seam.first != first:
                counts = _ingest(source, folder, settings, start=_NOWHERE if first is None else first)
                seam, _ = _read_facts(folder) or (Seam(), counts)
            expected = expected if first is None else seam.stopped_at
        total += counts
    return total


def check_kept(counts: Counts, folders: Sequence[Path]) -> None:
    """Raise ValueError where the crawl gave no page at all: what its records were instead, and what is wrong with the first."""
    if counts.kept:
        return
    if not counts.documents_in:
        raise ValueError("the crawl holds no page: none of its records is a response, a resource, a conversion or a row")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.dropped.items()))
    shards = (read_shard(shard, ["source", "reason", "value"]) for folder in folders for shard in list_shards(folder / "dropped"))
    first = next(row for shard in shards for row in shard.slice(0, 1).to_pylist())
    raise ValueError(f"the crawl holds no page: {reasons}; the first is {first['source']}: {first['reason']}, {first['value'] or 'nothing in it'}")


def _read_facts(folder: Path) -> tuple[Seam, Counts] | None:
    try:
        facts = json.loads((folder / _SEAM).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Seam(**facts["seam"]), Counts(**facts["counts"])


def _archive(source: InputFile, settings: IngestSettings, seam: Seam, start: int | None) -> Iterator[Page]:
    """Pages of the part of an archive. `start` is where its first record starts, None = that has to be found."""
    limit = settings.max_record_megabytes << 20
    if start == _NOWHERE:
        return
    with open_input(source.paths[0]) as file:
        seam.first = first_record(file, source.name, source.kind, source.start, source.end) if start is None else start
        if seam.first is None:
            return
        records = Records(ByteReader(open_chunks(file, source.name, seam.first)), source.kind, limit, source.end)
        seen = 0
        for record in records:
            seen += 1
            if record.kind in ("response", "resource", "conversion") and not _ABOUT_CRAWL.match(record.url or ""):
                yield _page(f"{source.name}#{record.place}", record, limit)
        seam.stopped_at = records.stopped_at
        if not seen and not source.start and seam.stopped_at is None:
            yield Page(f"{source.name}#0", reason="unreadable_archive", value="no record in it")


def _page(source: str, record: ArchiveRecord, limit: int) -> Page:
    page = Page(source, record.url, iso_date(record.date))
    if record.problem:
        return page.drop(record.problem, record.value)
    payload, content_type = record.block, record.content_type
    if record.kind == "response" and (payload[:5].upper() == b"HTTP/" or "http" in content_type):
        try:
            response = parse_response(payload, limit)
        except TooLarge as error:
            return page.drop("too_large", str(error))
        if response is None:
            return page.drop("broken_record", "no HTTP status line")
        if not 200 <= response.status < 300:
            return page.drop("http_status", str(response.status))
        payload, content_type = response.body, response.content_type
    media_type = _AFTER_TYPE.split(content_type, maxsplit=1)[0].strip()
    if not payload.strip():
        return page.drop("empty_record", None)
    if media_type == "text/plain" or record.kind == "conversion":
        return page.with_text(decode(payload, find_charset(payload, content_type)))
    head = payload[:_SNIFFED_BYTES]
    is_page = media_type in _PAGE_TYPES or (media_type in _XML_TYPES and b"<html" in head.lower()) or (not media_type and looks_like_html(head))
    if not is_page:
        return page.drop("not_html", media_type or "no content type")
    return page.with_html(payload, find_charset(payload, content_type))


def _html_files(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    limit = settings.max_record_megabytes << 20
    for name, path in zip(source.names, source.paths, strict=True):
        with open_input(path) as file:
            try:
                payload, size = ByteReader(open_chunks(file, name)).take(limit + 1, limit + 1)
            except BrokenStream as error:
                yield Page(f"{name}#0", reason="unreadable_archive", value=str(error))
                continue
        canonical = _CANONICAL.search(payload[: 1 << 16])
        page = Page(f"{name}#0", canonical.group(1).decode("utf-8", "replace") if canonical else None)
        if size > limit:
            yield page.drop("too_large", f"more than {limit} bytes")
        elif not payload.strip():
            yield page.drop("empty_record", None)
        elif file_kind(name) is None and not looks_like_html(payload[:_SNIFFED_BYTES]):
            yield page.drop("not_html", None)
        else:
            yield page.with_html(payload, find_charset(payload))
