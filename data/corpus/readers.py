"""From input files to page shards: WARC, WET, ARC, HTML, JSON lines, Parquet.

Every record that claims to be a document (a response, a resource, a conversion, a row, a file) is kept or dropped
with a reason; requests, metadata and the like are passed over. What of a file cannot be read is one dropped record.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.archives import ArchiveRecord, arc_records, warc_records
from data.corpus.charset import decode, find_charset
from data.corpus.http import TooLarge, parse_response
from data.corpus.page_writer import Page, PageWriter
from data.corpus.streams import BrokenStream, ByteReader, open_chunks
from data.document import Counts
from data.settings import IngestSettings
from data.text import clean_text

_COMPRESSION_ENDINGS = (".gz", ".zst", ".bz2", ".lz4")
_KINDS = {
    ".warc": "warc", ".wet": "warc", ".wat": "warc", ".arc": "arc",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_HTML_FILES = 1000  # HTML files read as one input
_PAGE_TYPES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml")
_LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype|html|head|body|title|meta|p|div|h1)\b", re.IGNORECASE)
_CANONICAL = re.compile(rb"""<link[^>]{1,200}?rel=["']?canonical["']?[^>]{1,200}?href=["']([^"'>\s]{8,2000})""", re.IGNORECASE)

_ABOUT_CRAWL = re.compile(r"(?:metadata|dns|whois|warcinfo):", re.IGNORECASE)  # records of the crawler, not of the web


@dataclass(frozen=True)
class InputFile:
    """One unit of reading: a file, or up to a thousand HTML files of one folder tree."""

    name: str  # relative to the corpus
    kind: str  # warc, arc, html, jsonl, parquet
    paths: tuple[Path, ...]
    names: tuple[str, ...]  # of `paths`, relative to the corpus


def file_kind(name: str) -> str | None:
    """What a file is by its name; None = nothing we read."""
    name = name.lower()
    for ending in (".bad", ".open"):  # crawlers' marks of unfinished archives
        name = name.removesuffix(ending)
    for ending in _COMPRESSION_ENDINGS:
        name = name.removesuffix(ending)
    return _KINDS.get(Path(name).suffix)


def list_inputs(path_or_glob: str | Path) -> list[InputFile]:
    """Inputs under a file, a folder or a glob, in the order of their relative names.

    Files of an unknown type are left out, unless the argument names the file itself: that raises ValueError, as
    an argument that matches nothing raises FileNotFoundError.
    """
    text = str(path_or_glob)
    root = Path(text)
    if root.is_file():
        kind = file_kind(root.name) or sniff_kind(root)
        if kind is None:
            raise ValueError(f"{text}: not a file we read (WARC, ARC, WET, HTML, JSON lines or Parquet)")
        return [InputFile(root.name, kind, (root,), (root.name,))]
    if root.is_dir():
        found = {str(path.relative_to(root).as_posix()): path for path in root.rglob("*") if path.is_file()}
    else:
        fixed = Path(glob.escape(text) if not glob.has_magic(text) else re.split(r"[*?\[]", text)[0])
        base = fixed if text[len(str(fixed)) : len(str(fixed)) + 1] == "/" or fixed.is_dir() else fixed.parent
        matches = [Path(match) for match in glob.glob(text, recursive=True)]
        found = {}
        for match in matches:
            files = [match] if match.is_file() else [path for path in match.rglob("*") if path.is_file()]
            found.update({str(path.relative_to(base).as_posix()): path for path in files})
    hidden = {name for name in found if any(part.startswith(".") for part in Path(name).parts)}
    named = [(name, found[name]) for name in sorted(found.keys() - hidden) if file_kind(name)]
    if not named:
        raise FileNotFoundError(f"{text}: no WARC, ARC, WET, HTML, JSON lines or Parquet file there")
    return _group(named)


def sniff_kind(path: Path) -> str | None:
    """What a file without a telling name is, by its first bytes."""
    with path.open("rb") as file:
        try:
            head = ByteReader(open_chunks(file, path.name)).peek(512)
        except BrokenStream:
            return None
    if head.startswith(b"WARC/"):
        return "warc"
    if head.startswith(b"filedesc://"):
        return "arc"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.lstrip().startswith(b"{"):
        return "jsonl"
    return "html" if _LOOKS_LIKE_HTML.search(head) else None


def _group(named: list[tuple[str, Path]]) -> list[InputFile]:
    inputs = []
    pages = [(name, path) for name, path in named if file_kind(name) == "html"]
    for at in range(0, len(pages), _HTML_FILES):
        names, paths = zip(*pages[at : at + _HTML_FILES], strict=True)
        inputs.append(InputFile(names[0], "html", paths, names))
    for name, path in named:
        kind = file_kind(name)
        if kind and kind != "html":
            inputs.append(InputFile(name, kind, (path,), (name,)))
    return sorted(inputs, key=lambda item: item.name)


def ingest_file(source: InputFile, out: Path, settings: IngestSettings) -> Counts:
    """Read `source` into out/documents/part-*.parquet (PAGE_SCHEMA) and out/dropped/part-*.parquet.

    Never raises for what the file holds; only for what the machine lacks (no such file, no space).
    """
    readers: dict[str, Callable[[InputFile, IngestSettings], Iterator[Page]]] = {
        "warc": _archive, "arc": _archive, "html": _html_files, "jsonl": _json_lines, "parquet": _parquet,
    }  # fmt: skip
    writer = PageWriter(out, settings.shard_megabytes << 20, settings.shard_documents)
    for page in readers[source.kind](source, settings):
        writer.add(page)
    return writer.close()


def _archive(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    limit = settings.max_record_megabytes << 20
    with source.paths[0].open("rb") as file:
        try:
            reader = ByteReader(open_chunks(file, source.name))
            records = (arc_records if source.kind == "arc" else warc_records)(reader, limit)
        except BrokenStream as error:
            yield Page(f"{source.name}#0", reason="unreadable_archive", value=str(error))
            return
        seen = 0
        for record in records:
            seen += 1
            if record.kind in ("response", "resource", "conversion") and not _ABOUT_CRAWL.match(record.url or ""):
                yield _page(f"{source.name}#{record.number}", record, limit)
        if not seen:
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
    media_type = content_type.split(";")[0].strip()
    if not payload.strip():
        return page.drop("empty_record", None)
    if media_type == "text/plain" or record.kind == "conversion":
        return page.with_text(decode(payload, find_charset(payload, content_type)))
    if media_type not in _PAGE_TYPES and (media_type or not _LOOKS_LIKE_HTML.search(payload[:4096])):
        return page.drop("not_html", media_type or "no content type")
    return page.with_html(payload, find_charset(payload, content_type))


def _html_files(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    limit = settings.max_record_megabytes << 20
    for name, path in zip(source.names, source.paths, strict=True):
        with path.open("rb") as file:
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
        else:
            yield page.with_html(payload, find_charset(payload))


def _json_lines(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    limit = settings.max_record_megabytes << 20
    number = 0
    with source.paths[0].open("rb") as file:
        try:
            for line in ByteReader(open_chunks(file, source.name)).lines(limit + 1):
                if not line.strip():
                    continue
                page = Page(f"{source.name}#{number}")
                number += 1
                if len(line) > limit:
                    yield page.drop("too_large", f"more than {limit} bytes")
                    continue
                try:
                    row = json.loads(line.decode("utf-8", "replace"))
                except (ValueError, RecursionError):
                    row = None
                yield _row(page, row if isinstance(row, dict) else None, settings)
        except BrokenStream as error:
            yield Page(f"{source.name}#{number}", reason="truncated_record", value=str(error))


def _parquet(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    number = 0
    fields = [settings.text_field, settings.html_field, settings.url_field, settings.date_field]
    try:
        with pq.ParquetFile(source.paths[0]) as file:
            columns = [name for name in dict.fromkeys(fields) if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for row in batch.to_pylist():
                    yield _row(Page(f"{source.name}#{number}"), row, settings)
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        value = str(error).splitlines()[0] if str(error) else None
        yield Page(f"{source.name}#{number}", reason="unreadable_archive", value=value)


def _row(page: Page, row: Mapping[str, Any] | None, settings: IngestSettings) -> Page:
    """A row of JSON lines or Parquet: its text or else its HTML."""
    if row is None:
        return page.drop("broken_record", "not a JSON object")
    url, date = row.get(settings.url_field), row.get(settings.date_field)
    page = Page(page.source, url if isinstance(url, str) else None, iso_date(None if date is None else str(date)))
    text, html = row.get(settings.text_field), row.get(settings.html_field)
    if isinstance(text, bytes):
        text = decode(text, find_charset(text))
    if isinstance(html, str):
        html = html.encode("utf-8", "replace")
    limit = settings.max_record_megabytes << 20
    if isinstance(text, str):
        if len(text) > limit:
            return page.drop("too_large", f"{len(text)} characters")
        return page.with_text(text) if text.strip() else page.drop("empty_record", None)
    if isinstance(html, bytes):
        if len(html) > limit:
            return page.drop("too_large", f"{len(html)} bytes")
        return page.with_html(html, find_charset(html)) if html.strip() else page.drop("empty_record", None)
    return page.drop("broken_record", f"no field {settings.text_field!r} or {settings.html_field!r}")


def iso_date(date: str | None) -> str | None:
    """`date` (ISO 8601, or an ARC file's 14 digits) as YYYY-MM-DDTHH:MM:SSZ; None where it is no date."""
    if not date:
        return None
    date = date.strip()
    try:
        if date[:8].isdigit() and date.isdigit():
            moment = datetime.strptime(date[:14].ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(clean_text(date))
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
