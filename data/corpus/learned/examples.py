"""Rows to learn from or to hold against the crawl: lines of text, JSON lines, CSV, Parquet, plain or compressed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.reading.charset import text_of
from data.corpus.reading.chunks import BrokenStream
from data.corpus.reading.streams import COMPRESSION_ENDINGS, ByteReader, is_damage, open_chunks

_ENDINGS = {".txt": "text", ".tsv": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_ANSWERING = ("assistant", "gpt", "bot", "model")  # who answers, as the usual formats name it
_MOST_BYTES = 64 << 20  # of a line, where what is beyond is passed over, and of a CSV file
_MMLU = ["question", "A", "B", "C", "D", "answer"]  # columns of MMLU's files, which have no header


def read_examples(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a file, or of all files of a folder in the order of their names.

    A line of a .txt or .tsv file is the row {"text": line}; JSON lines must be objects; of CSV (C-Eval's files, or without a header MMLU's) and
    Parquet every column is read. Each row has the file's name without its endings as `file`. Raises FileNotFoundError and ValueError,
    which name the file and line.
    """
    root = Path(path)
    files = sorted(found for found in root.rglob("*") if found.is_file()) if root.is_dir() else [root]
    read = [(file, kind) for file in files if (kind := _kind(file)) and not file.name.startswith(".")]
    if not read:
        raise FileNotFoundError(f"{path}: no .txt, .jsonl, .csv or .parquet file there")
    for file, kind in read:
        name = file.name.split(".")[0]
        for row in _parquet(file) if kind == "parquet" else _csv(file) if kind == "csv" else _lines(file, kind):
            yield {**row, "file": name}


def _kind(file: Path) -> str | None:
    name = file.name.lower()
    for ending in COMPRESSION_ENDINGS:
        name = name.removesuffix(ending)
    return _ENDINGS.get(Path(name).suffix)


def _lines(file: Path, kind: str) -> Iterator[dict[str, Any]]:
    with file.open("rb") as stream:
        try:
            for number, line in enumerate(ByteReader(open_chunks(stream, file.name)).lines(_MOST_BYTES), 1):
                text = text_of(line).strip()
                if text and kind == "text":
                    yield {"text": text}
                elif text:
                    yield _row(text, f"{file}:{number}")
        except BrokenStream as error:
            raise ValueError(f"{file}: cannot be read on: {error}") from None


def _row(text: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a row is a JSON object, here is a {type(row).__name__}")
    return row


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as stream:
        try:
            payload, size = ByteReader(open_chunks(stream, file.name)).take(_MOST_BYTES + 1, _MOST_BYTES + 1)
        except BrokenStream as error:
            raise ValueError(f"{file}: cannot be read on: {error}") from None
    if size > _MOST_BYTES:
        raise ValueError(f"{file}: a CSV file of more than {_MOST_BYTES} bytes; write JSON lines or Parquet")
    names: list[str] = []
    try:
        for row in filter(None, csv.reader(io.StringIO(text_of(payload), newline=""))):
            if not names and not _is_of_mmlu(row):
                names = [cell.strip() for cell in row]
                continue
            names = names or _MMLU
            yield dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise ValueError(f"{file}: not CSV: {error}") from None


def _is_of_mmlu(row: list[str]) -> bool:
    """A question, its choices and the letter of the right one; the header of C-Eval's test files ends like that too."""
    return len(row) == len(_MMLU) and row[-1].strip() in ("A", "B", "C", "D") and row[0].strip().lower() != "id"


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise ValueError(f"{file}: not a Parquet file: {error}") from None


def texts_of(row: dict[str, Any], fields: list[str]) -> list[str]:
    """The strings in the named fields of a row; of a list of turns what the assistant did not say."""
    found: list[str] = []
    for field in fields:
        value = row.get(field)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                if str(item.get("role") or item.get("from")).lower() in _ANSWERING:
                    continue
                item = item.get("text") or item.get("content") or item.get("value")
            if isinstance(item, str) and item.strip():
                found.append(item)
    return found
