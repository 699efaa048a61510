"""One HTTP response as an archive holds it: status, headers, body with transfer and content encoding undone.

Archives are lenient witnesses: bodies are often stored decoded while the headers still say chunked or gzip, or the
chunks break off. What can be decoded is; what cannot is taken as it stands.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

import pyarrow as pa

from data.corpus.reading.streams import Codec

_STATUS = re.compile(rb"^HTTP/\d(?:\.\d)? +(\d{3})(?!\d)[^\n]*\n", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class TooLarge(Exception):
    """A body that decodes to more bytes than allowed."""


@dataclass(frozen=True)
class HttpResponse:
    status: int
    content_type: str  # lower case, with its parameters
    body: bytes = field(repr=False)


def parse_response(block: bytes, max_bytes: int) -> HttpResponse | None:
    """The response in `block`, or None where it is none. Raises TooLarge where the body decodes beyond `max_bytes`."""
    status = _STATUS.match(block)
    if status is None:
        return None
    end = _HEAD_END.search(block, status.end() - 2)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    headers: dict[str, str] = {}
    for line in head[status.end() :].splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.strip().lower().decode("latin-1"), value.strip().lower().decode("latin-1"))
    if "chunked" in headers.get("transfer-encoding", ""):
        body = dechunk(body)
    for encoding in reversed(headers.get("content-encoding", "").split(",")):
        body = decode_content(body, encoding.strip(), max_bytes)
    return HttpResponse(int(status.group(1)), headers.get("content-type", ""), body)


def dechunk(body: bytes) -> bytes:
    """`body` without its chunk frames (RFC 9112, 7.1); `body` itself where it does not start with one.

    Where a frame breaks off later, the rest is taken as it stands.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        frame = _CHUNK_SIZE.match(body, at)
        if frame is None:
            if not parts:
                return body
            parts.append(body[at:])
            break
        size = int(frame.group(1), 16)
        if size == 0:
            break
        start = frame.end()
        if not parts and start + size > len(body) and not frame.group().endswith(b"\r\n"):
            return body  # a word of hexadecimal letters on a line of its own
        parts.append(body[start : start + size])
        at = start + size
        if body[at : at + 2] == b"\r\n":
            at += 2
        elif body[at : at + 1] == b"\n":
            at += 1
        elif at < len(body):  # the frame's size was wrong, or these are no frames
            if len(parts) == 1:
                return body
            parts.append(body[at:])
            break
    return b"".join(parts)


def decode_content(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """`body` with one content encoding undone; `body` itself where it turns out not to be encoded.

    A stream that breaks off yields what was decoded before the break. Raises TooLarge beyond `max_bytes`.
    """
    if not body or encoding in ("", "identity", "utf-8"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return _inflate(body, 31, max_bytes) if body.startswith(b"\x1f\x8b") else body
    if encoding == "deflate":
        wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _inflate(body, 15 if wrapped else -15, max_bytes)
    codecs: dict[str, Codec] = {"br": "brotli", "zstd": "zstd"}
    codec = codecs.get(encoding)
    return _arrow_decode(body, codec, max_bytes) if codec else body


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    while body:
        member = zlib.decompressobj(window)
        try:
            while not member.eof and body:
                part = member.decompress(body, 1 << 18)
                body = member.unconsumed_tail
                parts.append(part)
                total += len(part)
                if total > max_bytes:
                    raise TooLarge(f"more than {max_bytes} bytes decoded")
        except zlib.error:
            if not total:
                return body if not parts else b""
            break
        if not member.unused_data.startswith(b"\x1f\x8b"):
            break
        body = member.unused_data
    return b"".join(parts)


def _arrow_decode(body: bytes, codec: Codec, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(body), codec)
        while part := stream.read(1 << 18):
            parts.append(part)
            total += len(part)
            if total > max_bytes:
                raise TooLarge(f"more than {max_bytes} bytes decoded")
    except OSError:
        if not total:
            return body
    return b"".join(parts)
