"""Records of WARC and ARC archives, as far as they can be read.

WARC: ISO 28500 (1.0, 1.1). ARC: versions 1 and 2 (archive.org). Both are read leniently: a record whose length is
wrong costs itself, and reading goes on at the next line that looks like the head of a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from data.corpus.streams import BrokenStream, ByteReader

_MAX_HEAD = 1 << 16  # bytes of a record's head
_MIN_HEAD = 64  # fewer bytes outside any record are the tail of the one before
_ENOUGH = 0.9  # of a cut block: what is there is still a page
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n?$")
_ARC_HEAD = re.compile(rb"^([a-zA-Z][a-zA-Z0-9+.-]*:.*) ([0-9a-fA-F.:]+) (\d{4,}) (\S+)(?: .*)? (\S+)\r?\n$")


@dataclass(frozen=True)
class ArchiveRecord:
    """One record. `problem` is a drop reason where it could not be read whole; `block` then holds what there was."""

    number: int  # 0-based, counts every record of the file
    kind: str  # WARC-Type, or "response" in an ARC file
    url: str | None
    date: str | None  # as it stands in the archive
    content_type: str
    block: bytes = field(repr=False)
    problem: str | None = None
    value: str | None = None


def warc_records(reader: ByteReader, max_bytes: int) -> Iterator[ArchiveRecord]:
    """Records of a WARC file in order; blocks above `max_bytes` are passed over as `too_large`."""
    return _records(reader, max_bytes, _warc_head)


def arc_records(reader: ByteReader, max_bytes: int) -> Iterator[ArchiveRecord]:
    """Records of an ARC file in order; the leading filedesc record has kind "warcinfo"."""
    return _records(reader, max_bytes, _arc_head)


@dataclass
class _Head:
    kind: str
    url: str | None
    date: str | None
    content_type: str
    length: int | None  # None where it is missing or no number


def _records(
    reader: ByteReader, max_bytes: int, read_head: Callable[[ByteReader], tuple[_Head | None, int]]
) -> Iterator[ArchiveRecord]:
    number = 0
    while True:
        head: _Head | None = None
        try:
            head, lost = read_head(reader)
            if lost >= _MIN_HEAD:
                yield _broken(number, "broken_record", f"{lost} bytes outside any record")
                number += 1
            if head is None:
                return
            if head.length is None:
                yield ArchiveRecord(
                    number, head.kind, head.url, head.date, head.content_type, b"", "broken_record", "no length"
                )
                number += 1
                continue
            block, passed = reader.take(head.length, max_bytes)
        except BrokenStream as error:
            reason = "truncated_record" if "ends inside" in str(error) else "unreadable_archive"
            yield _broken(number, reason, str(error), head)
            number += 1
            if not reader.resync():
                return
            continue
        problem: tuple[str | None, str | None] = (None, None)
        if passed < head.length * _ENOUGH:
            problem = ("truncated_record", f"{passed} of {head.length} bytes")
        elif head.length > max_bytes:
            problem = ("too_large", f"{head.length} bytes")
            block = b""
        yield ArchiveRecord(number, head.kind, head.url, head.date, head.content_type, block, *problem)
        number += 1


def _broken(number: int, reason: str, value: str, head: _Head | None = None) -> ArchiveRecord:
    if head is None:
        return ArchiveRecord(number, "response", None, None, "", b"", reason, value)
    return ArchiveRecord(number, head.kind, head.url, head.date, head.content_type, b"", reason, value)


def _warc_head(reader: ByteReader) -> tuple[_Head | None, int]:
    """The next record's head and the number of bytes (blank lines apart) passed over before it."""
    lost = 0
    while True:
        line = reader.line(_MAX_HEAD)
        if line is None:
            return None, lost
        if _VERSION.match(line):
            break
        lost += len(line.strip())
    headers: dict[str, str] = {}
    name = ""
    size = 0
    while (line := reader.line(_MAX_HEAD)) is not None and line.strip():
        size += len(line)
        if size > _MAX_HEAD:
            break
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[0] in " \t" and name:
            headers[name] += " " + text.strip()
        elif ":" in text:
            name, value = text.split(":", 1)
            name = name.strip().lower()
            headers.setdefault(name, value.strip())
    length = headers.get("content-length", "")
    url = headers.get("warc-target-uri")
    if url and url.startswith("<") and url.endswith(">"):  # wget 1.19 wrote it so
        url = url[1:-1]
    head = _Head(
        kind=headers.get("warc-type", "").lower(),
        url=url or None,
        date=headers.get("warc-date"),
        content_type=headers.get("content-type", "").lower(),
        length=int(length) if length.isascii() and length.isdigit() and len(length) < 18 else None,
    )
    return head, lost


def _arc_head(reader: ByteReader) -> tuple[_Head | None, int]:
    lost = 0
    while True:
        line = reader.line(_MAX_HEAD)
        if line is None:
            return None, lost
        match = _ARC_HEAD.match(line)
        if match:
            break
        lost += len(line.strip())
    url, _, date, content_type, length = (part.decode("utf-8", "replace") for part in match.groups())
    described = url.startswith("filedesc:")
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 18 else None
    if described and size is None:
        size = 0
        while (line := reader.line(_MAX_HEAD)) is not None and line.strip():
            pass
    kind = "warcinfo" if described else "response"
    return _Head(kind, url, date, content_type.lower(), size), 0 if described else lost
