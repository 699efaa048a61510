"""The values of a JSON-lines file, a JSON array, one JSON object or a Parquet table, compressed or not, one by one with their lines."""

from __future__ import annotations

import codecs
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.reading.chunks import BrokenStream
from data.corpus.reading.streams import codec_of, is_damage, open_chunks

EXCERPT = 200  # characters of a rejected line that are kept: enough to find it, small enough for a table


@dataclass(frozen=True)
class Value:
    """One JSON value and the line (from 1) that it begins on, or a row and its number."""

    line: int
    value: Any


@dataclass(frozen=True)
class Rejected:
    """A line that gave no record: its number (from 1), why, and the start of its text."""

    line: int
    reason: str
    text: str

    def as_dict(self) -> dict[str, object]:
        return {"line": self.line, "reason": self.reason, "text": self.text}


def excerpt(text: str) -> str:
    """The first characters of `text`, safe to write as UTF-8."""
    return text[:EXCERPT].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def read_values(path: Path) -> Iterator[Value | Rejected]:
    """Every JSON value of `path`, or row as an object, in order; what is none comes as Rejected (`broken_json`, `broken_parquet`, and
    where a compressed file is damaged or cut off `broken_gzip`, `broken_zstd` and so on).

    One value is held at a time, whatever the file's size. An LMFlow file, one object with `type` and `instances`, gives its
    instances. A row says nothing for its nulls. UTF-16 is told by its mark; bytes that are not UTF-8 arrive as lone surrogates
    inside the strings, for the reader of records to refuse.

    Raises:
        FileNotFoundError, IsADirectoryError: as `open` does.
    """
    with path.open("rb") as file:
        if file.read(4) == _PARQUET_MAGIC:
            return _rows(path)
    head = _head(path)
    start = head.lstrip()
    if start.startswith("["):
        return _array(path, len(head) - len(start) + 1)
    if start.startswith("{"):
        opening, newline, _ = start.partition("\n")
        instances = _INSTANCES.match(start)
        if instances and not (newline and _is_json(opening)):
            return _array(path, len(head) - len(start) + instances.end(), within=True)
        if newline and not _is_json(opening) and _is_json(start):
            return iter([Value(1 + head[: len(head) - len(start)].count("\n"), _parse(start))])
    return _lines(path)


_PARQUET_MAGIC = b"PAR1"
_ROWS = 32  # read at once: answers may be a megabyte each
_HEAD = 1 << 20  # characters: what the layout is told by; an object over several lines is read up to this size
_CHUNK = 1 << 18  # characters read on in search of an element's end
_LOOK_AHEAD = 1 << 22  # characters after which an element that does not parse is broken, if another begins below it
_INSTANCES = re.compile(r'\{\s*(?:"type"\s*:\s*"[^"]*"\s*,\s*)?"instances"\s*:\s*\[')
_FIRST_KEY = re.compile(r'\{\s*"[^"\\]*"')
_GAP = re.compile(r"[\s,\]]*")  # what follows an array's end is read on, as an element or a broken one
_GAP_WITHIN = re.compile(r"[\s,]*")
_REST_OF_OBJECT = re.compile(r'\](?:\s*,\s*"[^"]*"\s*:\s*(?:"[^"]*"|[^\s{}\[\]",]+))*\s*\}\s*')


def _head(path: Path) -> str:
    texts, size = [], 0
    for text in _chunks(path):
        if isinstance(text, Rejected) or size >= _HEAD:
            break
        texts.append(text)
        size += len(text)
    return "".join(texts)


def _chunks(path: Path) -> Iterator[str | Rejected]:
    """The file's text piece by piece; a compressed file that was cut off ends with a Rejected (its line is not known here)."""
    with path.open("rb") as file:
        codec = codec_of(file, path.name)
        chunks = open_chunks(file, path.name)
        try:
            chunk = chunks.next()
            utf16 = chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # what PowerShell writes
            encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
            decoder = codecs.getincrementaldecoder(encoding)(errors)
            while chunk:
                yield decoder.decode(chunk)
                chunk = chunks.next()
            yield decoder.decode(b"", final=True)
        except BrokenStream as error:
            yield Rejected(0, f"broken_{codec}", str(error))


def _raw_lines(path: Path) -> Iterator[tuple[int, str] | Rejected]:
    number, begun = 1, [""]
    for text in _chunks(path):
        if isinstance(text, Rejected):
            yield Rejected(number, text.reason, text.text)
            return
        first, *others = text.split("\n")
        begun.append(first)
        for line in others:
            yield number, "".join(begun)
            number, begun = number + 1, [line]
    yield number, "".join(begun)


def _rows(path: Path) -> Iterator[Value | Rejected]:
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield Value(number, {name: value for name, value in row.items() if value is not None})
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        yield Rejected(number + 1, "broken_parquet", excerpt(str(error)))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_json(text: str) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> Iterator[Value | Rejected]:
    for raw in _raw_lines(path):
        if isinstance(raw, Rejected):
            yield raw
            continue
        number, text = raw[0], raw[1].removeprefix("\ufeff")  # files that were joined have a mark where each began
        if not text.strip():
            continue
        try:
            value = _parse(text)
        except ValueError:
            yield Rejected(number, "broken_json", excerpt(text.strip()))
        else:
            yield Value(number, value)


class _Window:
    """The part of a file's text that is in memory, and a place in it with its line."""

    def __init__(self, path: Path) -> None:
        self._chunks = _chunks(path)
        self._counted = 0
        self.text, self.position, self.line, self.ended = "", 0, 1, False
        self.broken: Rejected | None = None

    def more(self, characters: int = 1) -> bool:
        """Read on at least so many characters; False at the file's end. What lies before the position is let go."""
        self.line_here()
        pieces, size = [self.text[self.position :]], 0
        self.position = self._counted = 0
        while size < characters and not self.ended:
            chunk = next(self._chunks, None)
            if chunk is None or isinstance(chunk, Rejected):
                self.ended, self.broken = True, chunk
            else:
                pieces.append(chunk)
                size += len(chunk)
        self.text = "".join(pieces)
        return size > 0

    def line_here(self) -> int:
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self.line

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Move behind what `pattern` matches; False where the file ends there."""
        while (end := _after(pattern, self.text, self.position)) >= len(self.text):
            self.position = end
            if not self.more():
                return False
        self.position = end
        return True


def _array(path: Path, start: int, within: bool = False) -> Iterator[Value | Rejected]:
    """Elements one by one; after a broken one the reading goes on at the next one that begins as the first did.

    Args:
        start: characters before the first element, the opening bracket included.
        within: the array is a value of an object, whose other values are passed over.
    """
    window, decoder = _Window(path), json.JSONDecoder()
    while len(window.text) < start and window.more():
        pass
    window.position = start
    resume: re.Pattern[str] | None = None
    while window.skip(_GAP_WITHIN if within else _GAP):
        if within and window.text[window.position] == "]":
            while window.more():  # the rest of the object: small
                pass
            if tail := window.text[_after(_REST_OF_OBJECT, window.text, window.position) :].strip():
                yield Rejected(window.line_here(), "broken_json", excerpt(tail))
            break
        if resume is None:
            indent = window.text[: window.position].rpartition("\n")[2]
            resume = _beginning(window, indent)
        line = window.line_here()
        found, end = _element(window, decoder, resume)
        yield Rejected(line, "broken_json", excerpt(window.text[window.position : end].strip())) if found is None else Value(line, found[0])
        window.position = end
    if window.broken:
        yield Rejected(window.line_here(), window.broken.reason, window.broken.text)


def _element(window: _Window, decoder: json.JSONDecoder, resume: re.Pattern[str]) -> tuple[tuple[Any] | None, int]:
    """((value,), its end), or (None, where the reading goes on). Reads on while the element may only be cut off."""
    wanted = _CHUNK
    while True:
        try:
            value, end = decoder.raw_decode(window.text, window.position)
            if end < len(window.text) or window.ended:  # else a number may go on
                return (value,), end
        except (ValueError, RecursionError):
            following = resume.search(window.text, window.position)
            if window.ended or (following and len(window.text) - window.position >= _LOOK_AHEAD):
                return None, following.end() if following else len(window.text)
        window.more(wanted)
        wanted *= 2  # so that a long element is not parsed from its start too often


def _beginning(window: _Window, indent: str) -> re.Pattern[str]:
    """How elements begin: as the first does, in a line of its own, or, where all stand in one line, by the same key."""
    if not indent.strip():
        return re.compile("\n" + re.escape(indent) + r"(?=\{)")
    key = _FIRST_KEY.match(window.text, window.position)
    return re.compile(r"\n[ \t]*(?=\{)" + (rf"|\}}\s*,\s*(?={re.escape(key[0])})" if key else ""))


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


class _Line(Protocol):
    def line(self) -> str: ...


def write_jsonl(path: Path, records: Iterable[_Line | dict[str, Any]]) -> int:
    """Write records, one a line, in order; the file appears whole or not at all. Returns how many."""
    count = 0

    def write(file: IO[str]) -> None:
        nonlocal count
        for record in records:
            file.write(dump(record) if isinstance(record, dict) else record.line())
            count += 1

    write_whole(path, write)
    return count


def dump(value: dict[str, Any]) -> str:
    """One JSON line."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write one indented JSON object, whole or not at all."""
    write_whole(path, lambda file: file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n"))


def write_whole(path: Path, write: Callable[[IO[str]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
