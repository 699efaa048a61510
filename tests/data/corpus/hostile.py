"""Writes a folder of small hostile inputs: `python -m tests.data.corpus.hostile FOLDER`.

Everything that has broken a crawl reader, in files of at most some hundred kilobytes: `write` says what is in each.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.corpus.helpers import SAMPLES, gz, http, warc_record

HTML = "<html><head><title>A page</title></head><body><article><p>{}</p></article></body></html>"
SENTENCE = "The miller of the valley told the children a long story about the river, its ferry and the bridge. "
CHINESE = "山谷里的人起得很早，清早的街上到处是人声，河水从山里流下来，绕过镇子慢慢流走。"
GOOD = HTML.format((SAMPLES / "trusted" / "en.txt").read_text(encoding="utf-8").splitlines()[0]).encode()
MEGABYTE = 1 << 20


def write(folder: Path, megabytes: int = 50) -> None:
    """`megabytes` is what the bombs grow to, each from some kilobytes."""
    for files in (archives(), pages(), rows(), tables(), bombs(megabytes)):
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _record(body: bytes, number: int, **headers: str) -> bytes:
    return warc_record(http(body, **headers), url=f"http://page{number}.example/")


def archives() -> dict[str, bytes]:
    """Broken, cut off, lying about their lengths, empty."""
    good = [_record(GOOD, number) for number in range(4)]
    whole = gz(*good)
    torn = bytearray(whole)
    torn[len(whole) // 2 : len(whole) // 2 + 30] = b"\xff" * 30
    return {
        "truncated.warc.gz": whole[:-50],
        "corrupt.warc.gz": bytes(torn),
        "no_gzip.warc.gz": b"not compressed at all",
        "two_bytes.warc.gz": b"\x1f\x8b",
        "empty.warc": b"",
        "nuls.warc": bytes(100_000),
        "nuls_before.warc.gz": bytes(1000) + whole,
        "magic_only.warc.gz": b"\x1f\x8b\x08\x00\0\0\0\0\x00\x03" * 2000,
        "endless_head.warc": b"WARC/1.0\r\nWARC-Type: response\r\nX: " + b"x" * 300_000,
        "many_headers.warc": b"WARC/1.0\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
        "long_length.warc": warc_record(http(GOOD), Content_Length="99999999999999999") + good[1],
        "short_length.warc": warc_record(http(GOOD), Content_Length="30") + good[1],
        "no_length.warc": warc_record(http(GOOD), Content_Length="-5") + good[1],
        "duplicates.warc.gz": gz(good[0], good[0], good[0]),
        "bad.arc": b"filedesc://x 0 0 text/plain 99999\n" + b"http://a.example/ 1.2.3.4 20200101000000 text/html 10\nshort",
    }


def pages() -> dict[str, bytes]:
    """Hostile markup, wrong encodings, empty pages, all in one archive; hostile addresses in another."""
    bodies: list[tuple[bytes, str]] = [
        (b"<div>" * 100_000 + SENTENCE.encode() * 5, "text/html"),
        (b"<table><tr><td>" * 30_000 + b"deep", "text/html"),
        (b"<b><i><a href=x>" * 20_000 + b"</b>" * 20_000, "text/html"),
        (b"<p " + b" ".join(b"a%d=1" % n for n in range(20_000)) + b">attributes</p>", "text/html"),
        (b"<!--" * 50_000, "text/html"),
        (b"<script>" + b"var a = '<p>';" * 20_000, "text/html"),
        (b"&#0;&#xD800;&#x110000;&lt" * 5000, "text/html"),
        (b"\0" * 1000 + GOOD + b"\0" * 1000, "text/html"),
        (GOOD.replace(b"miller", b"mil\0ler"), "text/html"),
        (b"\xed\xa0\x80\xed\xbf\xbf" * 500, "text/html; charset=utf-8"),  # lone surrogates
        (b"\xc0\xaf\xf8\x88\x80\x80\x80" * 500, "text/html; charset=utf-8"),  # overlong and beyond Unicode
        (HTML.format(CHINESE * 10).encode("gb18030"), "text/html; charset=utf-8"),
        (HTML.format(CHINESE * 10).encode("utf-16-le"), "text/html; charset=gb2312"),
        (HTML.format(SENTENCE * 10).encode("utf-16"), "text/html"),
        (GOOD, "text/html; charset=no-such-charset"),
        (GOOD, "text/html; charset=utf-7"),
        (b"", "text/html"),
        (b" \n\t ", "text/html"),
        (b"<html></html>", "text/html"),
        (b"<html><body>" + b"x" * (3 * MEGABYTE), "text/html"),
        (b"word " * 200_000, "text/plain"),
        ("字".encode() * 300_000, "text/plain"),
        (b"\n" * 200_000 + SENTENCE.encode() * 10, "text/plain"),
        ((SENTENCE + "\n").encode() * 3000, "text/plain"),
        (b"\xff\xfe" * 5000, "text/plain"),
    ]
    records = [_record(body, number, content_type=kind) for number, (body, kind) in enumerate(bodies)]
    urls = [
        "http://" + "a" * 100_000, "http://a.example/" + "%" * 5000, "http://[::1", "javascript:alert(1)", "http://a.example:99999999/",
        "http://\x01\x02/", "http://xn--0.example/", "http://..../", "http://a.example/?" + "a&" * 5000, "\ud7ff\ue000", "http://用户:密码@例子.example/",
    ]  # fmt: skip
    addressed = [warc_record(http(GOOD + str(n).encode()), url=url) for n, url in enumerate(urls)]
    dated = [warc_record(http(GOOD), url=f"http://d{n}.example/", WARC_Date=date) for n, date in enumerate(["99999-01-01", "yesterday", "0", "-1"])]
    files = {"pages.warc.gz": gz(*records), "addresses.warc.gz": gz(*addressed, *dated)}
    files |= {f"html/{n:02d}.html": body for n, (body, _) in enumerate(bodies[6:19])}
    return files


def rows() -> dict[str, bytes]:
    """JSON lines that are none, or hold what no text should."""
    lines: list[bytes] = [
        json.dumps({"text": SENTENCE * 10, "url": "http://j.example/"}).encode(),
        b'{"text": "lone \\ud800 surrogate \\udfff and \\u0000 nul"}', b'\xef\xbb\xbf{"text": "after a mark"}', b"{broken", b"[]", b"null", b"NaN",
        b'{"text": 5}', b'{"text": ["a", "b"]}', b'{"text": null}', b'{"text": ""}', b'{"text": {"text": "inner"}}', b"[" * 100_000,
        b'{"a":' * 50_000, b'{"text": ' + b"9" * 100_000 + b"}", b'{"text": "x", "url": 7, "date": [1]}', b'{"text": "\xff\xfe broken bytes"}',
        b'{"html": "<p>\\ud83d"}', b"\0" * 1000, b'{"text": "twice", "text": "once"}', b'{"text": "no end',
    ]  # fmt: skip
    body = b"\n".join(lines)
    whole = gzip.compress(body)
    return {
        "lines.jsonl": body, "crlf.jsonl": body.replace(b"\n", b"\r\n"), "utf16.jsonl": lines[0].decode().encode("utf-16"),
        "truncated.jsonl.gz": whole[:-20], "corrupt.jsonl.gz": whole[:100] + b"\xff" * 20 + whole[120:],
        "truncated.jsonl.xz": lzma.compress(body)[:-20], "truncated.jsonl.bz2": bz2.compress(body)[:-20],
        "truncated.jsonl.zst": pa.Codec("zstd").compress(body, asbytes=True)[:-20], "no_zstd.jsonl.zst": b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
        "empty.jsonl": b"", "empty.jsonl.gz": b"",
    }  # fmt: skip


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def tables() -> dict[str, bytes]:
    """Parquet with broken footers, no rows, other types, invalid UTF-8."""
    good = _parquet(pa.table({"text": [SENTENCE * 10, None, ""], "url": ["http://p.example/", None, "x"]}))
    broken_text = pa.array([b"\xff\xfe bytes that are no text", b"fine"], pa.binary()).view(pa.string())
    return {
        "truncated.parquet": good[: len(good) // 2], "no_footer.parquet": b"PAR1" + bytes(100), "wrong_footer.parquet": good[:-8] + b"\xff\xff\xff\x7fPAR1",
        "corrupt.parquet": good[:40] + bytes(60) + good[100:], "no_rows.parquet": _parquet(pa.table({"text": pa.array([], pa.string())})),
        "other_types.parquet": _parquet(pa.table({"text": [1, 2], "html": [[1], [2]], "url": [1.5, None], "date": [2**62, 1]})),
        "invalid_utf8.parquet": _parquet(pa.table({"text": broken_text})), "large.parquet": _parquet(pa.table({"text": pa.array([SENTENCE * 9], pa.large_string())})),
        "no_columns.parquet": _parquet(pa.table({"other": [1, 2, 3]})), "nested.parquet": _parquet(pa.table({"text": [{"a": "b"}]})),
    }  # fmt: skip


def bombs(megabytes: int) -> dict[str, bytes]:
    """Much out of little, on one line and in one value; meant to be more than a record may have."""
    zeros = bytes(megabytes * MEGABYTE)
    line = b'{"text": "' + b"a" * (megabytes * MEGABYTE) + b'"}\n{"text": "after the bomb"}\n'
    content = gzip.compress(zeros, 9)
    return {
        "member.warc.gz": gz(warc_record(http(zeros)), _record(GOOD, 100)),
        "content.warc.gz": gz(warc_record(http(content, Content_Encoding="gzip")), _record(GOOD, 101)),
        "twice.warc.gz": gz(warc_record(http(gzip.compress(content), Content_Encoding="gzip, gzip")), _record(GOOD, 102)),
        "one_line.jsonl.gz": gzip.compress(line),
        "one_line.jsonl.zst": pa.Codec("zstd").compress(line, asbytes=True),
        "one_line.jsonl.xz": lzma.compress(line, preset=1),
        "one_page.html.gz": gzip.compress(b"<p>" + zeros),
        "one_value.parquet": _parquet(pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 30), ["x" * (megabytes * MEGABYTE)])})),
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]))
