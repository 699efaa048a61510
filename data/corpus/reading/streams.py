"""Bytes of one input file, decompressed as they are asked for, so that memory is bounded by what is asked."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from io import IOBase
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from data.corpus.reading.chunks import CHUNK, MAX_REREAD, BrokenStream, Chunks, Place, PlainChunks
from data.corpus.reading.gzip_members import GzipChunks

_GZIP_MAGIC = b"\x1f\x8b"
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB to decompress
_MAX_GONE_BACK = 16  # times that as much as the whole rest of one file is read twice
Codec = Literal["bz2", "brotli", "gzip", "lz4", "zstd"]
_COMPRESSIONS: dict[str, Codec | Literal["xz"]] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".xz": "xz"}
COMPRESSION_ENDINGS = tuple(_COMPRESSIONS)


def is_damage(error: OSError) -> bool:
    """Whether Arrow says it of a file's bytes: what disks and networks say has a number (errno) or is of a kind of its own."""
    return type(error) is OSError and error.errno is None


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
                    given = self._stream.unused_data.lstrip(b"\0") or self._file.read(CHUNK).lstrip(b"\0")
                    if not given:
                        return b""
                    self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
                elif self._stream.needs_input:
                    given = self._file.read(CHUNK)
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
        self._may_reread, self._may_go_back = MAX_REREAD, _MAX_GONE_BACK

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
