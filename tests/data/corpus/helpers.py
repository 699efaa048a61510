"""Tables and archives for the tests of the corpus half."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.document import DOCUMENT_SCHEMA, PAGE_SCHEMA, content_id

REAL = Path(__file__).resolve().parents[4] / "shared" / "real"
SAMPLES = Path(__file__).resolve().parents[3] / "data" / "samples"


def documents(*texts: str, urls: list[str | None] | None = None) -> pa.Table:
    rows = []
    for index, text in enumerate(texts):
        url = urls[index] if urls else None
        row = {"id": content_id(url or f"#{index}", text.encode("utf-8", "replace")), "url": url, "text": text}
        rows.append({**row, "date": None, "source": f"a.jsonl#{index}", "lang": None})
    return pa.Table.from_pylist(rows, DOCUMENT_SCHEMA)


def pages(*htmls: str | bytes, charset: str = "utf-8") -> pa.Table:
    rows: list[dict[str, Any]] = []
    for index, html in enumerate(htmls):
        payload = html.encode() if isinstance(html, str) else html
        rows.append({"id": content_id(str(index), payload), "source": f"a.warc#{index}", "html": payload, "charset": charset})
    return pa.Table.from_pylist(rows, PAGE_SCHEMA)


def read_all(folder: Path) -> list[dict[str, Any]]:
    return [row for shard in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(shard).to_pylist()]


def warc_record(block: bytes, kind: str = "response", url: str = "http://a.example/", **headers: str) -> bytes:
    lines = {"WARC-Type": kind, "WARC-Target-URI": url, "WARC-Date": "2024-05-01T10:00:00Z"}
    lines["Content-Type"] = "application/http; msgtype=response"
    lines["Content-Length"] = str(len(block))
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + block + b"\r\n\r\n"


def http(body: bytes, content_type: str = "text/html; charset=utf-8", status: str = "200 OK", **headers: str) -> bytes:
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{extra}\r\n".encode() + body


def gz(*records: bytes) -> bytes:
    return b"".join(gzip.compress(record, mtime=0) for record in records)
