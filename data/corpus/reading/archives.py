"""Records of WARC and ARC archives, as far as they can be read.

WARC: ISO 28500 (1.0, 1.1). ARC: versions 1 and 2 (archive.org). Both are read leniently: a record whose length is
wrong costs itself, and reading goes on at the next line that looks like the head of a record.

A record is named by its place in the file, so that it has the same name whatever part of the file was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from data.corpus.reading.chunks import BrokenStream, Place, PlainChunks
from data.corpus.reading.gzip_members import GzipChunks
from data.corpus.reading.streams import ByteReader, open_chunks

_MAX_HEAD = 1 << 16  # bytes of a record's head
_MIN_HEAD = 64  # fewer bytes outside any record are the tail of the one before
_ENOUGH = 0.9  # of a cut block: what is there is still a page
_SEEN_AHEAD = 1 << 12  # bytes behind a block
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n?$")
_NEXT_WARC = re.compile(rb"(?<=\n)WARC/\d+\.\d+[ \t]*\r?\n[A-Za-z-]+:")  # within a block that runs over its record
_ARC_HEAD = re.compile(rb"^([a-zA-Z][a-zA-Z0-9+.-]*:.*) ([0-9a-fA-F.:]+) (\d{4,}) (\S+)(?: .*)? (\S+)\r?\n$")
_NEXT_ARC = re.compile(rb"^[a-zA-Z][a-zA-Z0-9+.-]*://.* [0-9a-fA-F.:]+ \d{14} \S+(?: .*)? \d+\r?\n", re.MULTILINE)  # no line of an HTTP head is like that


@dataclass(frozen=True)
class ArchiveRecord:
    """One record. `problem` is a drop reason where it could not be read whole; `block` then holds what there was."""

    place: Place  # of its head
    kind: str  # WARC-Type, or "response" in an ARC file
    url: str | None
    date: str | None  # as it stands in the archive
    content_type: str
    block: bytes = field(repr=False)
    problem: str | None = None
    value: str | None = None


class Records:
    """Records of a WARC or ARC file in order, up to the first that starts at `end` or later.

    An ARC file's leading filedesc record has kind "warcinfo". Blocks above `max_bytes` are passed over as `too_large`.
    After the last record `stopped_at` is where reading of the next part of the file has to start; None at the file's end.
    """

    def __init__(self, reader: ByteReader, kind: str, max_bytes: int, end: int | None = None) -> None:
        self._reader = reader
        self._read_head = _arc_head if kind == "arc" else _warc_head
        self._head, self._next = (_ARC_HEAD, _NEXT_ARC) if kind == "arc" else (_VERSION, _NEXT_WARC)
        self._max_bytes = max_bytes
        self._end = end
        self.stopped_at: int | None = None

    def __iter__(self) -> Iterator[ArchiveRecord]:
        reader = self._reader
        while True:
            head: _Head | None = None
            since = reader.here()
            try:
                head, lost = self._read_head(reader)
                if lost.size >= _MIN_HEAD:
                    yield _broken(lost.place, "broken_record", f"{lost.size} bytes outside any record")
                if head is None:
                    return
                start = head.place.start
                if self._end is not None and start is not None and start >= self._end:
                    self.stopped_at = start
                    return
                if head.length is None:
                    yield _broken(head.place, "broken_record", "no length", head)
                    continue
                since = reader.here()
                block, passed = reader.take(head.length, self._max_bytes)
                if self._may_run_over(head.length, passed) and (inner := self._next.search(block)) and reader.go_back(inner.start(), since, block, passed):
                    yield _broken(head.place, "broken_record", f"its length of {head.length} bytes runs over the next record", head)
                    continue
            except BrokenStream as error:
                reason = "truncated_record" if "ends inside" in str(error) else "unreadable_archive"
                yield _broken(head.place if head else reader.damage(since), reason, str(error), head)
                if not reader.resync():
                    return
                continue
            problem: tuple[str | None, str | None] = (None, None)
            if passed < head.length * _ENOUGH:
                problem = ("truncated_record", f"{passed} of {head.length} bytes")
            elif head.length > self._max_bytes:
                problem = ("too_large", f"{head.length} bytes")
                block = b""
            yield ArchiveRecord(head.place, head.kind, head.url, head.date, head.content_type, block, *problem)

    def _may_run_over(self, length: int, passed: int) -> bool:
        """Whether a block may hold more than its record: it ran to the end of the file, or no head follows it."""
        ahead = self._reader.ahead(_SEEN_AHEAD).lstrip(b"\r\n")
        return passed < length or (b"\n" in ahead and self._head.match(ahead[: ahead.index(b"\n") + 1]) is None)


def first_record(file: BinaryIO, name: str, kind: str, start: int, end: int | None) -> int | None:
    """Offset of the first record of an archive that starts in [start, end), as far as can be seen from there.

    Of a file's beginning it is the beginning itself.
    """
    if not start:
        return 0
    chunks = open_chunks(file, name, start)
    if isinstance(chunks, GzipChunks):
        return chunks.find_record(end)
    reader = ByteReader(PlainChunks(file, start - 1))
    reader.line(0)  # what began before `start`
    match, place, _ = _find_head(reader, _ARC_HEAD if kind == "arc" else _VERSION, end)
    return place.start if match else None


@dataclass
class _Head:
    place: Place
    kind: str
    url: str | None
    date: str | None
    content_type: str
    length: int | None  # None where it is missing or no number


def _broken(place: Place, reason: str, value: str, head: _Head | None = None) -> ArchiveRecord:
    if head is None:
        return ArchiveRecord(place, "response", None, None, "", b"", reason, value)
    return ArchiveRecord(place, head.kind, head.url, head.date, head.content_type, b"", reason, value)


@dataclass
class _Lost:
    """What was passed over in search of a head."""

    place: Place
    size: int = 0  # bytes, blanks around lines apart


def _find_head(reader: ByteReader, pattern: re.Pattern[bytes], end: int | None = None) -> tuple[re.Match[bytes] | None, Place, _Lost]:
    """The next line that looks like the start of a head, its place, and what was passed over before it."""
    lost = _Lost(reader.here())
    while True:
        place = reader.place()
        line = reader.line(_MAX_HEAD) if end is None or place.within < end else None
        if line is None:
            return None, place, lost
        if match := pattern.match(line):
            return match, place, lost
        if not lost.size:
            lost.place = place
        lost.size += len(line.strip())


def _warc_head(reader: ByteReader) -> tuple[_Head | None, _Lost]:
    """The next record's head; None where there is none."""
    version, place, lost = _find_head(reader, _VERSION)
    if version is None:
        return None, lost
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
        place=place,
        kind=headers.get("warc-type", "").lower(),
        url=url or None,
        date=headers.get("warc-date"),
        content_type=headers.get("content-type", "").lower(),
        length=int(length) if length.isascii() and length.isdigit() and len(length) < 18 else None,
    )
    return head, lost


def _arc_head(reader: ByteReader) -> tuple[_Head | None, _Lost]:
    match, place, lost = _find_head(reader, _ARC_HEAD)
    if match is None:
        return None, lost
    url, _, date, content_type, length = (part.decode("utf-8", "replace") for part in match.groups())
    described = url.startswith("filedesc:")
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 18 else None
    if described and size is None:
        size = 0
        while (line := reader.line(_MAX_HEAD)) is not None and line.strip():
            pass
    if described:
        lost = _Lost(place)
    return _Head(place, "warcinfo" if described else "response", url, date, content_type.lower(), size), lost
