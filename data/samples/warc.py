"""WARC/1.0 records as bytes, the same bytes for the same input on every machine with the same zlib."""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib


def gzip_member(payload: bytes) -> bytes:
    """One gzip member with no time and no name in its header."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(payload) + deflate.flush()
    return b"\x1f\x8b\x08\x00\0\0\0\0\x02\xff" + body + struct.pack("<LL", zlib.crc32(payload), len(payload) & 0xFFFFFFFF)


def record(kind: str, block: bytes, date: str, url: str | None = None, content_type: str | None = None, seed: str = "") -> bytes:
    """A record of type `kind` with `block` as its content; its id is derived from all of these."""
    digest = hashlib.sha256("\0".join((kind, date, url or "", seed)).encode() + block).digest()
    headers = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", f"<urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}>"),
        ("WARC-Date", date),
    ]
    if url is not None:
        headers.append(("WARC-Target-URI", url))
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    headers.append(("Content-Length", str(len(block))))
    head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return head.encode() + block + b"\r\n\r\n"


def http_response(status: int, phrase: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """Status line, headers, blank line, body: the block of a response record."""
    head = f"HTTP/1.1 {status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return head.encode() + body


def chunked(body: bytes, size: int) -> bytes:
    """`body` in the chunked transfer coding, chunks of `size` bytes (RFC 9112, section 7.1)."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
