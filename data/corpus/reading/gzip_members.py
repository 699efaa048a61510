"""Gzip files, member by member. WARC and ARC files compress each record into a member of its own, so the place of a record is the
offset of its member: reading can start there, which is how one big file is split among workers, and how reading goes on after a
broken member (`resync`).
"""

from __future__ import annotations

import re
import zlib
from typing import BinaryIO

from data.corpus.reading.chunks import CHUNK, MAX_REREAD, BrokenStream, Place

_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)  # RFC 1952, 2.3
_MEMBER_HEAD = 10  # bytes
_PIECE = 1 << 14  # bytes of a member fed to zlib at once; also enough of one to see how its content starts
_RECORD_HEAD = re.compile(rb"WARC/\d|filedesc:|[a-zA-Z][a-zA-Z0-9+.-]{1,20}://")  # WARC, or ARC's first two kinds of line


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
        self._may_reread = MAX_REREAD
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
                out = self._member.decompress(piece, CHUNK)  # without a piece too: zlib may hold output back
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
        more = self._file.read(CHUNK)
        self._read += len(more)
        self._waiting = self._waiting[self._at :] + more
        self._at = 0
        return bool(more)


def _first_bytes(member: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(member, 64)
    except zlib.error:
        return b""
