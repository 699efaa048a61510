"""Bytes of one input file, decompressed as they are asked for, so that memory is bounded by what is asked.

A broken gzip member ends the stream with `BrokenStream`; `resync` goes on at the next member, as WARC and ARC files
compress each record into a member of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import IOBase
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import pyarrow as pa

_CHUNK = 1 << 18  # bytes read and, at most, decompressed at once
_GZIP_MAGIC = b"\x1f\x8b\x08"
Codec = Literal["bz2", "brotli", "gzip", "lz4", "zstd"]
_COMPRESSIONS: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}


class BrokenStream(Exception):
    """The compressed bytes are damaged or end too early."""


class Chunks(Protocol):
    def next(self) -> bytes:
        """The next bytes; b"" at the end. Raises BrokenStream."""

    def resync(self) -> bool:
        """After BrokenStream: skip the damage. False where nothing can be read any more."""


class PlainChunks:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def next(self) -> bytes:
        return self._file.read(_CHUNK)

    def resync(self) -> bool:
        return False


class CompressedChunks:
    """Zstandard, bzip2 and LZ4 frames, by Arrow's codecs."""

    def __init__(self, file: BinaryIO, compression: Codec) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(cast(IOBase, file)), compression)

    def next(self) -> bytes:
        try:
            return self._stream.read(_CHUNK)
        except OSError as error:
            raise BrokenStream(str(error)) from None

    def resync(self) -> bool:
        return False


class GzipChunks:
    """Gzip members one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = b""
        self._member = zlib.decompressobj(31)
        self._inside = False

    def next(self) -> bytes:
        while True:
            if not self._waiting:
                self._waiting = self._file.read(_CHUNK)
                if not self._waiting:
                    if self._inside:
                        self._inside = False
                        raise BrokenStream("the file ends inside a gzip member")
                    return b""
            if not self._inside:
                if not self._waiting.strip(b"\0"):  # padding after the last member
                    self._waiting = b""
                    continue
                self._member = zlib.decompressobj(31)
                self._inside = True
            try:
                out = self._member.decompress(self._waiting, _CHUNK)
            except zlib.error as error:
                self._inside = False
                self._waiting = self._waiting[1:]
                raise BrokenStream(str(error)) from None
            if self._member.eof:
                self._waiting = self._member.unused_data
                self._inside = False
            else:
                self._waiting = self._member.unconsumed_tail
            if out:
                return out

    def resync(self) -> bool:
        while True:
            at = self._waiting.find(_GZIP_MAGIC)
            if at >= 0:
                self._waiting = self._waiting[at:]
                return True
            more = self._file.read(_CHUNK)
            if not more:
                self._waiting = b""
                return False
            self._waiting = self._waiting[-2:] + more


def open_chunks(file: BinaryIO, name: str) -> Chunks:
    """Chunks of `file` by its first bytes or, failing that, by the ending of `name`."""
    head = file.read(4)
    file.seek(0)
    if head.startswith(_GZIP_MAGIC[:2]):
        return GzipChunks(file)
    if head == b"\x28\xb5\x2f\xfd":
        return CompressedChunks(file, "zstd")
    compression = _COMPRESSIONS.get(Path(name).suffix.lower())
    if compression == "gzip" and head:
        return GzipChunks(file)
    return CompressedChunks(file, compression) if compression and head else PlainChunks(file)


class ByteReader:
    """Looks ahead in and takes from chunks; never holds much more than was asked for."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0

    def _more(self) -> bool:
        chunk = self._chunks.next()
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)

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

    def resync(self) -> bool:
        """Drop what is buffered and go on after the damage, see `Chunks.resync`."""
        self._buffer, self._at = b"", 0
        return self._chunks.resync()
