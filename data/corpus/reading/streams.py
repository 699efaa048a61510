"""Bytes of one input file, decompressed as they are asked for, so that memory is bounded by what is asked.

Every byte has a place. WARC and ARC files compress each record into a gzip member of its own, so the place of a record
is the offset of its member: reading can start there, which is how one big file is split among workers, and how reading
goes on after a broken member (`resync`).
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator
from io import IOBase
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, cast

import pyarrow as pa

_CHUNK = 1 << 18  # bytes read and, at most, decompressed at once
_GZIP_MAGIC = b"\x1f\x8b"
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)  # RFC 1952, 2.3
_MEMBER_HEAD = 10  # bytes
_PIECE = 1 << 14  # bytes of a member fed to zlib at once; also enough of one to see how its content starts
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB to decompress
_MAX_REREAD = 64 << 20  # bytes read twice in search of the next member, in one file: a hostile file costs no more
_MAX_GONE_BACK = 16  # times that as much as the whole rest of one file is read twice
_RECORD_HEAD = re.compile(rb"WARC/\d|filedesc:|[a-zA-Z][a-zA-Z0-9+.-]{1,20}://")  # WARC, or ARC's first two kinds of line
Codec = Literal["bz2", "brotli", "gzip", "lz4", "zstd"]
_COMPRESSIONS: dict[str, Codec | Literal["xz"]] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".xz": "xz"}
COMPRESSION_ENDINGS = tuple(_COMPRESSIONS)


class BrokenStream(Exception):
    """The compressed bytes are damaged or end too early."""


def is_damage(error: OSError) -> bool:
    """Whether Arrow says it of a file's bytes: what disks and networks say has a number (errno) or is of a kind of its own."""
    return type(error) is OSError and error.errno is None


class Place(NamedTuple):
    """Where a byte lies in a file: `within` counts in the gzip member that starts at `member`, or in the whole file
    as it stands decompressed where `member` is None."""

    member: int | None
    within: int

    def __str__(self) -> str:
        if self.member is None:
            return str(self.within)
        return f"{self.member}+{self.within}" if self.within else str(self.member)

    @property
    def start(self) -> int | None:
        """The offset at which reading of the file can start to find this byte first; None where there is none."""
        if self.member is None:
            return self.within
        return None if self.within else self.member


class Chunks(Protocol):
    place: Place  # of the first byte that `next` returned last

    def next(self) -> bytes:
        """The next bytes, of one member; b"" at the end. Raises BrokenStream."""

    def damage(self) -> Place:
        """After BrokenStream: of the member that is damaged."""

    def resync(self) -> bool:
        """After BrokenStream: go to the next member that starts with a record. False where there is none."""

    def go_back(self, place: Place) -> bool:
        """Go back to this place, or in a file of members to the next member that starts with a record. False where that cannot be."""


class PlainChunks:
    """The bytes as they stand, in `file` or in what looks like one; places count them from `start`."""

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        file.seek(start)
        self._begin(file, start)

    def _begin(self, stream: Any, start: int) -> None:
        self._stream = stream
        self._next = start
        self.place = Place(None, start)

    def next(self) -> bytes:
        chunk: bytes = self._stream.read(_CHUNK)
        self.place = Place(None, self._next)
        self._next += len(chunk)
        return chunk

    def damage(self) -> Place:
        return Place(None, self._next)

    def resync(self) -> bool:
        return False

    def go_back(self, place: Place) -> bool:
        self._stream.seek(place.within)
        self._next = place.within
        return True


class _XzFile:
    """What `CompressedChunks` needs of a file: xz streams one after the other, with bounded memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        try:
            while True:
                given = b""
                if self._stream.eof:
                    given = self._stream.unused_data.lstrip(b"\0") or self._file.read(_CHUNK).lstrip(b"\0")
                    if not given:
                        return b""
                    self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
                elif self._stream.needs_input:
                    given = self._file.read(_CHUNK)
                    if not given:
                        raise OSError("the file ends inside an xz stream")
                if out := self._stream.decompress(given, size):
                    return out
        except lzma.LZMAError as error:
            raise OSError(str(error)) from None


class CompressedChunks(PlainChunks):
    """Zstandard, bzip2 and LZ4 frames by Arrow's codecs, xz by Python's own. Places count the decompressed bytes."""

    def __init__(self, file: BinaryIO, compression: Codec | Literal["xz"]) -> None:
        file.seek(0)
        if compression == "xz":
            self._begin(_XzFile(file), 0)
        else:
            self._begin(pa.CompressedInputStream(pa.PythonFile(cast(IOBase, file), mode="r"), compression), 0)

    def next(self) -> bytes:
        try:
            return super().next()
        except OSError as error:
            if not is_damage(error):
                raise
            raise BrokenStream(str(error)) from None

    def go_back(self, place: Place) -> bool:
        return False  # it would be decompressed from its beginning on


class GzipChunks:
    """Gzip members one after the other, from the one that starts at `start`.

    A member is fed to zlib in pieces that are counted from its own start: what comes out of a damaged member does not
    depend on where in the file reading began.
    """

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self._file = file
        self._waiting, self._at = b"", 0  # what was read of the file, and how much of it is done with
        self._read = start  # offset in the file after `_waiting`
        self._seek(start)
        self._member = zlib.decompressobj(31)
        self._member_at = start
        self._within = 0  # bytes that the member has given so far
        self._inside = False
        self._rest = b""  # given to zlib, but its output was not asked for yet
        self._may_reread = _MAX_REREAD
        self.place = Place(start, 0)

    def next(self) -> bytes:
        while True:
            while len(self._waiting) - self._at < _PIECE and self._append():
                pass
            if not self._inside:
                while self._at < len(self._waiting) and not self._waiting[self._at]:  # padding after the last member
                    self._at += 1
                if self._at == len(self._waiting):
                    if self._append():
                        continue
                    return b""
                self._member = zlib.decompressobj(31)
                self._member_at = self._offset()
                self._within = 0
                self._inside = True
            piece = self._rest
            if not piece:
                piece = self._waiting[self._at : self._at + _PIECE]
                self._at += len(piece)
            try:
                out = self._member.decompress(piece, _CHUNK)  # without a piece too: zlib may hold output back
            except zlib.error as error:
                self._inside, self._rest = False, b""
                raise BrokenStream(str(error)) from None
            if not piece and not out and not self._member.eof:
                self._inside = False
                raise BrokenStream("the file ends inside a gzip member")
            self._rest = self._member.unconsumed_tail
            if self._member.eof:
                self._untake(self._member.unused_data)
                self._inside, self._rest = False, b""
            if out:
                self.place = Place(self._member_at, self._within)
                self._within += len(out)
                return out

    def damage(self) -> Place:
        return Place(self._member_at, 0)

    def resync(self) -> bool:
        """What was read since the broken member began may hold whole members: it is looked through again."""
        again = self._offset() - (self._member_at + 1)
        if again <= self._may_reread:
            self._may_reread -= again
            self._seek(self._member_at + 1)
        return self.find_record() is not None

    def go_back(self, place: Place) -> bool:
        assert place.member is not None
        waiting, at, read = self._waiting, self._at, self._read
        self._seek(place.member + 1)
        if self.find_record() is None:
            self._seek(read)
            self._waiting, self._at = waiting, at
            return False
        self._inside, self._rest = False, b""
        return True

    def find_record(self, end: int | None = None) -> int | None:
        """Go to the first member from here on that starts with a record; its offset, or None where there is none.

        Members that start at `end` or later are not looked at.
        """
        while True:
            found = _MEMBER.search(self._waiting, self._at)
            if found and len(self._waiting) - found.start() < _PIECE and self._append():
                continue
            self._at = found.start() if found else max(self._at, len(self._waiting) - _MEMBER_HEAD + 1)
            if end is not None and self._offset() >= end:
                return None
            if found is None:
                if not self._append():
                    return None
            elif _RECORD_HEAD.match(_first_bytes(self._waiting[self._at : self._at + _PIECE])):
                return self._offset()
            else:
                self._at += 1

    def _offset(self) -> int:
        return self._read - len(self._waiting) + self._at

    def _seek(self, offset: int) -> None:
        self._file.seek(offset)
        self._waiting, self._at, self._read = b"", 0, offset

    def _untake(self, taken: bytes) -> None:
        if self._at >= len(taken):
            self._at -= len(taken)
        else:
            self._waiting, self._at = taken + self._waiting[self._at :], 0

    def _append(self) -> bool:
        more = self._file.read(_CHUNK)
        self._read += len(more)
        self._waiting = self._waiting[self._at :] + more
        self._at = 0
        return bool(more)


def _first_bytes(member: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(member, 64)
    except zlib.error:
        return b""


def codec_of(file: BinaryIO, name: str) -> Codec | Literal["xz"] | None:
    """How `file` is compressed, by its first bytes or, failing that, by the ending of `name`; None = not at all."""
    file.seek(0)
    head = file.read(6)
    file.seek(0)
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if head == b"\xfd7zXZ\0":
        return "xz"
    return _COMPRESSIONS.get(Path(name).suffix.lower()) if head else None


def open_chunks(file: BinaryIO, name: str, start: int = 0) -> Chunks:
    """Chunks of `file`, see `codec_of`. Raises ValueError for a `start` in a file that can be read from its beginning only."""
    codec = codec_of(file, name)
    if codec is None:
        return PlainChunks(file, start)
    if codec == "gzip":
        return GzipChunks(file, start)
    if start:
        raise ValueError(f"{name}: {codec} can be read from its beginning only")
    return CompressedChunks(file, codec)


class ByteReader:
    """Looks ahead in and takes from chunks; never holds much more than was asked for."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0
        self._marks: list[tuple[int, Place]] = [(0, chunks.place)]  # where in the buffer each chunk begins
        self._may_reread, self._may_go_back = _MAX_REREAD, _MAX_GONE_BACK

    def _more(self) -> bool:
        chunk = self._chunks.next()
        if not chunk:
            return False
        self._forget()
        self._marks.append((len(self._buffer) - self._at, self._chunks.place))
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return True

    def _forget(self) -> None:
        """Move the marks along with the buffer that loses what was taken."""
        moved = [(index - self._at, place) for index, place in self._marks]
        first = max((n for n, (index, _) in enumerate(moved) if index <= 0), default=0)
        self._marks = moved[first:]

    def here(self) -> Place:
        """Of the byte after the last one taken, as far as is known without reading on."""
        index, place = next(mark for mark in reversed(self._marks) if mark[0] <= self._at)
        return Place(place.member, place.within + self._at - index)

    def place(self) -> Place:
        """Of the next byte; at the end, of the byte after the last. Raises BrokenStream."""
        if self._at == len(self._buffer):
            self._more()
        return self.here()

    def peek(self, size: int) -> bytes:
        """Up to `size` bytes that come next, not taken; fewer at the end alone."""
        while len(self._buffer) - self._at < size and self._more():
            pass
        return self._buffer[self._at : self._at + size]

    def take(self, size: int, keep: int) -> tuple[bytes, int]:
        """Pass over `size` bytes; return the first `keep` of them and how many were there."""
        parts: list[bytes] = []
        kept = passed = 0
        while passed < size:
            if self._at == len(self._buffer) and not self._more():
                break
            piece = self._buffer[self._at : self._at + size - passed]
            self._at += len(piece)
            passed += len(piece)
            if kept < keep:
                parts.append(piece[: keep - kept])
                kept += len(parts[-1])
        return b"".join(parts), passed

    def ahead(self, size: int) -> bytes:
        """Up to `size` bytes that come next, of those that are read already."""
        return self._buffer[self._at : self._at + size]

    def line(self, limit: int) -> bytes | None:
        """The next line with its end, cut at `limit` bytes (the rest is passed over); None at the end."""
        parts: list[bytes] = []
        kept = 0
        while True:
            if self._at == len(self._buffer) and not self._more():
                return b"".join(parts) if parts else None
            end = self._buffer.find(b"\n", self._at)
            stop = len(self._buffer) if end < 0 else end + 1
            if kept < limit:
                parts.append(self._buffer[self._at : min(stop, self._at + limit - kept)])
                kept += len(parts[-1])
            self._at = stop
            if end >= 0:
                return b"".join(parts)

    def lines(self, limit: int) -> Iterator[bytes]:
        while (line := self.line(limit)) is not None:
            yield line

    def damage(self, since: Place) -> Place:
        """After BrokenStream: the place that names the damage. `since`: where the last record that could be read ended."""
        member = self._chunks.damage()
        return since if since.member == member.member else member

    def go_back(self, to: int, since: Place, taken: bytes, passed: int) -> bool:
        """Go back to byte `to` of the `passed` ones that came since that place, of which `taken` are the first; where they are of several
        members, to the first record of the next member. False where that cannot be, or was done too often; nothing has moved then."""
        place = Place(since.member, since.within + to)
        if passed == len(taken) and (since.member is None or self._chunks.place.member == since.member):
            self._may_reread -= passed - to
            if self._may_reread >= 0:
                self._buffer, self._at, self._marks = taken[to:] + self._buffer[self._at :], 0, [(0, place)]
            return self._may_reread >= 0
        self._may_go_back -= 1
        if self._may_go_back < 0 or not self._chunks.go_back(place):
            return False
        self._buffer, self._at, self._marks = b"", 0, [(0, place)]
        return True

    def resync(self) -> bool:
        """Drop what is buffered and go on after the damage, see `Chunks.resync`."""
        self._buffer, self._at = b"", 0
        self._marks = [(0, self._chunks.place)]
        return self._chunks.resync()
