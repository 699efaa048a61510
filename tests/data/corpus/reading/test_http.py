from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.reading.http import TooLarge, dechunk, parse_response
from tests.data.corpus.helpers import http

LIMIT = 1 << 20


def _body(block: bytes) -> bytes:
    response = parse_response(block, LIMIT)
    assert response is not None
    return response.body


def test_plain_response() -> None:
    response = parse_response(http(b"<p>hi", status="404 Not Found"), LIMIT)
    assert response is not None
    assert (response.status, response.content_type, response.body) == (404, "text/html; charset=utf-8", b"<p>hi")


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_chunks(ends: bytes) -> None:
    framed = ends.join([b"5;x=1", b"hello", b"6", b" world", b"0", b"", b""])
    assert dechunk(framed) == b"hello world"


def test_chunks_that_are_none() -> None:
    assert dechunk(b"<html>not framed") == b"<html>not framed"
    assert dechunk(b"ad\nvice to the reader") == b"ad\nvice to the reader"  # "ad" is no size
    assert dechunk(b"5\r\nhello\r\nbroken frame") == b"hellobroken frame"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_dechunk_takes_anything(body: bytes) -> None:
    assert len(dechunk(body)) <= len(body)


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress(b"text " * 50, mtime=0)),
        ("deflate", zlib.compress(b"text " * 50)),
        ("deflate", zlib.compress(b"text " * 50)[2:-4]),
        ("br", brotli.compress(b"text " * 50)),
        ("gzip", b"text " * 50),  # stored decoded
        ("br", b"text " * 50),
        ("unknown", b"text " * 50),
    ],
)
def test_content_encodings(encoding: str, encoded: bytes) -> None:
    assert _body(http(encoded, Content_Encoding=encoding)) == b"text " * 50


def test_a_cut_stream_gives_what_there_was() -> None:
    whole = bytes(range(256)) * 400
    assert whole.startswith(_body(http(gzip.compress(whole, mtime=0)[:400], Content_Encoding="gzip"))[:100])


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip.compress(bytes(LIMIT * 20), mtime=0)), ("br", brotli.compress(bytes(LIMIT * 20)))])
def test_bombs_are_bounded(encoding: str, bomb: bytes) -> None:
    with pytest.raises(TooLarge):
        parse_response(http(bomb, Content_Encoding=encoding), LIMIT)


def test_no_response() -> None:
    assert parse_response(b"GET / HTTP/1.1\r\n\r\n", LIMIT) is None
    assert parse_response(b"", LIMIT) is None
    assert _body(b"HTTP/1.1 200 OK\r\nno end of head") == b""
