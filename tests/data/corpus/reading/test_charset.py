from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.reading.charset import decode, find_charset

CHINESE = "今天的天气很好，我们去公园散步。" * 3


@pytest.mark.parametrize(
    ("payload", "content_type", "text"),
    [
        (CHINESE.encode(), "text/html; charset=iso-8859-1", CHINESE),  # valid UTF-8 wins over a wrong header
        (CHINESE.encode("gbk"), "text/html; charset=gb2312", CHINESE),
        (b'<meta charset="gbk">' + CHINESE.encode("gbk"), "text/html", '<meta charset="gbk">' + CHINESE),
        (CHINESE.encode("gbk"), "text/html; charset=utf-8", CHINESE),  # a wrong header; detected
        (CHINESE.encode("gb18030"), "", CHINESE),
        ("naïve café".encode("latin-1"), "text/html; charset=iso-8859-1", "naïve café"),
        ("\ufeffmarked é".encode(), "", "marked é"),
        ("“quoted”".encode("cp1252"), 'text/html; charset="ISO-8859-1"', "“quoted”"),
        (b"plain", "text/html; charset=nonsense", "plain"),
    ],
)
def test_charsets(payload: bytes, content_type: str, text: str) -> None:
    assert decode(payload, find_charset(payload, content_type)) == text


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "charset=gbk", "charset=utf-16", "charset=hex", "charset=rot13"]))
def test_any_bytes_decode(payload: bytes, content_type: str) -> None:
    assert isinstance(decode(payload, find_charset(payload, content_type)), str)
