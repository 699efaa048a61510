"""Bytes of one input file a piece at a time, every byte with its place; how the pieces of a compressed file look is `streams`' matter."""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple, Protocol

CHUNK = 1 << 18  # bytes read and, at most, decompressed at once
MAX_REREAD = 64 << 20  # bytes read twice in search of the next member, in one file: a hostile file costs no more


class BrokenStream(Exception):
    """The compressed bytes are damaged or end too early."""


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
        chunk: bytes = self._stream.read(CHUNK)
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
