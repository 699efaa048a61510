"""The values of a JSON-lines file, a JSON array or one JSON object, gzipped or not, one by one with their line numbers."""

from __future__ import annotations

import gzip
import json
import os
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

EXCERPT = 200  # characters of a rejected line that are kept: enough to find it, small enough for a table


@dataclass(frozen=True)
class Value:
    """One JSON value and the line (from 1) that it begins on."""

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
    """Every JSON value of `path`, in order; what is not JSON comes as Rejected (`broken_json`, `broken_gzip`).

    Bytes that are not UTF-8 arrive as lone surrogates inside the strings, for the reader of records to refuse.

    Raises:
        FileNotFoundError, IsADirectoryError: as `open` does.
    """
    first = _first_character(path)
    if first == "[":
        return _array(path)
    if first == "{" and _spans_lines(path):
        return _object(path)
    return _lines(path)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")


def _raw_lines(path: Path) -> Iterator[tuple[int, str] | Rejected]:
    number = 0
    with _open(path) as file:
        try:
            for number, line in enumerate(file, 1):
                encoding = "utf-8-sig" if number == 1 else "utf-8"
                yield number, line.decode(encoding, "surrogateescape")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield Rejected(number + 1, "broken_gzip", str(error))


def _first_character(path: Path) -> str:
    for raw in _raw_lines(path):
        if isinstance(raw, tuple) and raw[1].strip():
            return raw[1].lstrip()[0]
    return ""


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _spans_lines(path: Path) -> bool:
    """True where the first line is not JSON by itself but the whole file is."""
    for raw in _raw_lines(path):
        if isinstance(raw, tuple) and raw[1].strip():
            try:
                _parse(raw[1])
            except ValueError:
                break
            return False
    try:
        _parse(_whole(path)[0])
    except ValueError:
        return False
    return True


def _whole(path: Path) -> tuple[str, list[Rejected]]:
    texts, rejected = [], []
    for raw in _raw_lines(path):
        if isinstance(raw, Rejected):
            rejected.append(raw)
        else:
            texts.append(raw[1])
    return "".join(texts), rejected


def _lines(path: Path) -> Iterator[Value | Rejected]:
    for raw in _raw_lines(path):
        if isinstance(raw, Rejected):
            yield raw
            continue
        number, text = raw
        if not text.strip():
            continue
        try:
            value = _parse(text)
        except ValueError:
            yield Rejected(number, "broken_json", excerpt(text.strip()))
        else:
            yield Value(number, value)


def _object(path: Path) -> Iterator[Value | Rejected]:
    yield Value(1, _parse(_whole(path)[0]))


def _array(path: Path) -> Iterator[Value | Rejected]:
    """Elements one by one; after a broken one the reading goes on at the next line that begins as the first did."""
    text, rejected = _whole(path)
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    counted, line = 0, 1
    resume: re.Pattern[str] | None = None
    while True:
        position = _skip(text, position)
        if position >= len(text):
            break
        line += text.count("\n", counted, position)
        counted = position
        if resume is None:
            indent = text[text.rfind("\n", 0, position) + 1 : position]
            resume = re.compile("\n" + (re.escape(indent) if not indent.strip() else "[ \t]*") + r"(?=\{)")
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            following = resume.search(text, position)
            end = following.start() if following else len(text)
            yield Rejected(line, "broken_json", excerpt(text[position:end].strip()))
            position = end
        else:
            yield Value(line, value)
    yield from rejected


_GAP = re.compile(r"[\s,\]]*")  # what follows the array's end is read on, as an element or a broken one


def _skip(text: str, position: int) -> int:
    match = _GAP.match(text, position)
    assert match is not None  # the pattern matches the empty string
    return match.end()


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
