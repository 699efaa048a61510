"""Pages out of rows: JSON lines or one JSON value, Parquet, Hugging Face datasets. A row gives its text or else its HTML."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.corpus.reading import hub
from data.corpus.reading.charset import find_charset, text_of
from data.corpus.reading.chunks import BrokenStream
from data.corpus.reading.dates import iso_date
from data.corpus.reading.inputs import InputFile, open_input
from data.corpus.reading.page_writer import Page
from data.corpus.reading.streams import ByteReader, is_damage, open_chunks
from data.document import Verdict
from data.settings import IngestSettings

_BATCH_ROWS = 256
_HEAD_BYTES = 1 << 12  # enough to see whether a file is lines
_NAMED_COLUMNS = 20  # of a table without a payload


def json_lines(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    """A page per line that is not blank; of a file that is one JSON value, a page per object in it. A part has the lines that
    start in it."""
    limit = settings.max_record_megabytes << 20
    place = None
    if (pages := _one_value(source, settings)) is not None:
        yield from [] if source.start else pages
        return
    with open_input(source.paths[0]) as file:
        try:
            # The line that the part before has begun, if only with its last byte, is passed over.
            reader = ByteReader(open_chunks(file, source.name, max(source.start - 1, 0)))
            if source.start and (reader.line(0) is None):
                return
            while source.end is None or reader.place().within < source.end:
                place = reader.place()
                line = reader.line(limit + 1)
                if line is None:
                    return
                if line.strip():
                    yield _json_line(Page(f"{source.name}#{place}"), line, limit, settings)
        except BrokenStream as error:
            yield Page(f"{source.name}#{place or 0}+", reason="truncated_record", value=str(error))


def _one_value(source: InputFile, settings: IngestSettings) -> list[Page] | None:
    """Pages of a file that is one JSON value: an array, or an object over several lines; None where it is lines.

    It is read as a whole, so it may have no more bytes than a record.
    """
    limit, name = settings.max_record_megabytes << 20, source.name
    with open_input(source.paths[0]) as file:
        try:
            reader = ByteReader(open_chunks(file, name))
            start = reader.peek(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return [Page(f"{name}#0").drop("broken_record", "UTF-16; write JSON in UTF-8")]
            first, ended, _ = start.partition(b"\n")
            is_array = start.startswith(b"[")
            if not is_array and not (ended and start.startswith(b"{") and _parsed(first) is None):
                return None
            whole = reader.peek(limit + 1)
        except BrokenStream:
            return None  # which is told where the lines end
    if is_array and len(whole) > limit:
        return [Page(f"{name}#0").drop("too_large", f"a JSON array of more than {limit} bytes; write one object a line, as jq -c '.[]' does")]
    value = _parsed(whole)
    if value is None:
        return [Page(f"{name}#0").drop("broken_record", "no JSON array")] if is_array else None
    return [_row(Page(f"{name}#{number}"), row, settings) for number, row in enumerate(value if isinstance(value, list) else [value])]


def _json_line(page: Page, line: bytes, limit: int, settings: IngestSettings) -> Page:
    if len(line) > limit:
        return page.drop("too_large", f"more than {limit} bytes")
    return _row(page, _parsed(line), settings)


def _row(page: Page, value: Any, settings: IngestSettings) -> Page:
    return _page(page, value, settings) if isinstance(value, dict) else page.drop("broken_record", "not a JSON object")


def _parsed(payload: bytes) -> Any:
    """The JSON value in `payload`; null where it is none. What is not UTF-8 is in the encoding that a page would be in."""
    try:
        return json.loads(text_of(payload))
    except (ValueError, RecursionError):
        return None


def parquet(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    """A page per row of the part's row groups. Raises OSError where the file is not there or can no longer be reached."""
    number = 0
    try:
        with open_input(source.paths[0]) as raw, _open_parquet(raw, settings) as file:
            groups = range(source.start, file.num_row_groups if source.end is None else source.end)
            number = sum(file.metadata.row_group(group).num_rows for group in range(source.start))
            columns = _columns(settings, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=list(groups), columns=columns):
                for row in _rows(batch, settings):
                    yield _page(Page(f"{source.name}#{number}"), row, settings)
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        value = str(error).splitlines()[0] if str(error) else None
        yield Page(f"{source.name}#{number}", reason="unreadable_archive", value=value)


def _open_parquet(raw: BinaryIO, settings: IngestSettings) -> pq.ParquetFile:
    """Payload columns stay dictionaries, where they are: one huge value for many rows is held once."""
    metadata = pq.read_metadata(raw)
    there = {metadata.schema.column(index).path for index in range(metadata.num_columns)}
    return pq.ParquetFile(raw, metadata=metadata, read_dictionary=[name for name in _payloads(settings) if name in there])


def dataset(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    """A page per row of a Hugging Face dataset."""
    number = source.start
    given = hub.parse(source.paths[0])
    assert given is not None
    for table in hub.rows(given, partial(_columns, settings), source.start, source.end):
        for batch in table.to_batches():
            for row in _rows(batch, settings):
                yield _page(Page(f"{source.name}#{number}"), row, settings)
                number += 1


def _payloads(settings: IngestSettings) -> list[str]:
    return [settings.text_field, settings.html_field]


def _columns(settings: IngestSettings, there: Sequence[str]) -> list[str]:
    """The columns to read, of those that are there; where none holds a payload, the first ones, which the dropped rows then name."""
    payloads, others = _payloads(settings), [settings.url_field, settings.date_field]
    if not any(_column(name, there) in there for name in payloads):
        return list(there[:_NAMED_COLUMNS])
    wanted = dict.fromkeys(_column(name, there) for name in (*payloads, *others))
    return [name for name in wanted if name in there]


def _column(name: str, there: Collection[str]) -> str:
    """The column of a field: `metadata` of `metadata.url`, where no column has that name itself."""
    return name if name in there else name.split(".", 1)[0]


def _field(row: Mapping[str, Any], name: str) -> Any:
    """What stands under `name`, a key or a path of keys; null where nothing does."""
    if name in row or "." not in name:
        return row.get(name)
    key, rest = name.split(".", 1)
    inner = row.get(key)
    return _field(inner, rest) if isinstance(inner, Mapping) else None


def _rows(batch: pa.RecordBatch, settings: IngestSettings) -> Iterator[dict[str, Any]]:
    """Rows one at a time, and of values that are too large their size alone: a column that repeats one huge value must
    not be unpacked at once, nor again for every row."""
    limit = settings.max_record_megabytes << 20
    columns = [(name, column, _sizes(column)) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    for index in range(batch.num_rows):
        row = {}
        for name, column, sizes in columns:
            size = sizes[index] if sizes else None
            row[name] = _TooLarge(size) if size is not None and size > limit else _value(column[index])
        yield row


@dataclass(frozen=True)
class _TooLarge:
    """In the place of a value that is not unpacked."""

    size: int  # bytes


def _sizes(column: pa.Array) -> list[int | None]:
    """Bytes of each value; empty where the column holds neither text nor bytes."""
    values: Any = column.dictionary if isinstance(column, pa.DictionaryArray) else column
    kind = values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return []
    sizes = pc.binary_length(values)
    return (sizes.take(column.indices) if isinstance(column, pa.DictionaryArray) else sizes).to_pylist()


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:  # a writer that did not check its UTF-8
        stored: Any = scalar.value if isinstance(scalar, pa.DictionaryScalar) else scalar
        return stored.as_buffer().to_pybytes()
    except (ValueError, OverflowError):  # a date beyond Python's
        return str(scalar)


def _page(page: Page, row: Mapping[str, Any], settings: IngestSettings) -> Page:
    url, date = _field(row, settings.url_field), _field(row, settings.date_field)
    page = Page(page.source, url if isinstance(url, str) else None, iso_date(None if date is None else str(date)))
    text, html = _field(row, settings.text_field), _field(row, settings.html_field)
    if isinstance(text, bytes):
        text = text_of(text)
    if isinstance(html, str):
        html = html.encode("utf-8", "replace")
    if html and isinstance(html, bytes | _TooLarge) and isinstance(text, str) and not text.strip():
        text = None  # as those write it who could not extract one
    limit = settings.max_record_megabytes << 20
    payload = html if text is None else text
    if isinstance(payload, _TooLarge):
        return page.drop("too_large", f"{payload.size} bytes")
    if isinstance(text, str):
        if len(text) > limit:
            return page.drop("too_large", f"{len(text)} characters")
        return page.with_text(text) if text.strip() else page.drop("empty_record", None)
    if isinstance(html, bytes):
        if len(html) > limit:
            return page.drop("too_large", f"{len(html)} bytes")
        return page.with_html(html, find_charset(html)) if html.strip() else page.drop("empty_record", None)
    return page.drop(*_without_payload(row, settings))


def _without_payload(row: Mapping[str, Any], settings: IngestSettings) -> Verdict:
    """Why a row has neither text nor HTML: the fields are empty, hold something else, or have other names."""
    for setting, name in (("text_field", settings.text_field), ("html_field", settings.html_field)):
        if (value := _field(row, name)) is not None:
            return "broken_record", f"ingest.{setting}: {name!r} holds no text: {type(value).__name__}"
    if any(name in row for name in _payloads(settings)):
        return "empty_record", None
    there = ", ".join(map(str, row))
    return "broken_record", f"no field {settings.text_field!r} or {settings.html_field!r} (ingest.text_field, ingest.html_field); there is {there or 'none'}"
