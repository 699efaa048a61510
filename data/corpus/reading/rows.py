"""Pages out of rows: JSON lines, Parquet, Hugging Face datasets. A row gives its text or else its HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.corpus.reading import hub
from data.corpus.reading.charset import decode, find_charset
from data.corpus.reading.dates import iso_date
from data.corpus.reading.inputs import InputFile, open_input
from data.corpus.reading.page_writer import Page
from data.corpus.reading.streams import BrokenStream, ByteReader, open_chunks
from data.settings import IngestSettings

_BATCH_ROWS = 256


def json_lines(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    """A page per line that is not blank. A part has the lines that start in it."""
    limit = settings.max_record_megabytes << 20
    place = None
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


def _json_line(page: Page, line: bytes, limit: int, settings: IngestSettings) -> Page:
    if len(line) > limit:
        return page.drop("too_large", f"more than {limit} bytes")
    try:
        row = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        row = None
    return _page(page, row if isinstance(row, dict) else None, settings)


def parquet(source: InputFile, settings: IngestSettings) -> Iterator[Page]:
    """A page per row of the part's row groups."""
    number = 0
    try:
        with open_input(source.paths[0]) as raw, _open_parquet(raw, settings) as file:
            groups = range(source.start, file.num_row_groups if source.end is None else source.end)
            number = sum(file.metadata.row_group(group).num_rows for group in range(source.start))
            columns = [name for name in _fields(settings) if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=list(groups), columns=columns):
                for row in _rows(batch, settings):
                    yield _page(Page(f"{source.name}#{number}"), row, settings)
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
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
    for table in hub.rows(given, _fields(settings), source.start, source.end):
        for batch in table.to_batches():
            for row in _rows(batch, settings):
                yield _page(Page(f"{source.name}#{number}"), row, settings)
                number += 1


def _payloads(settings: IngestSettings) -> list[str]:
    return [settings.text_field, settings.html_field]


def _fields(settings: IngestSettings) -> list[str]:
    return list(dict.fromkeys([*_payloads(settings), settings.url_field, settings.date_field]))


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


def _page(page: Page, row: Mapping[str, Any] | None, settings: IngestSettings) -> Page:
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
    return page.drop("broken_record", f"no field {settings.text_field!r} or {settings.html_field!r}")
