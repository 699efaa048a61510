"""Big files in parts, and every place a corpus may lie in: the same documents, named alike."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import random
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus.reading.inputs import list_inputs
from data.corpus.reading.readers import ingest_file, join_parts
from data.document import Counts
from data.settings import IngestSettings
from tests.data.corpus.helpers import gz, http, read_all, warc_record

HTML = b"<html><body><p>Hello</p></body></html>"


def read(entry: str | Path, out: Path, split_bytes: int | None = None) -> tuple[list[dict[str, Any]], Counts]:
    """All rows, kept and dropped, and the counts of a corpus that is read in parts."""
    sources = list_inputs(entry, split_bytes)
    folders = [out / f"{number:05d}" for number in range(len(sources))]
    for source, folder in zip(sources, folders, strict=True):
        ingest_file(source, folder, IngestSettings())
    counts = join_parts(sources, folders, IngestSettings())
    counts.check()
    rows = [row for folder in folders for kind in ("documents", "dropped") for row in read_all(folder / kind)]
    assert len(rows) == counts.documents_in
    assert len({row["source"] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: row["source"]), counts


def same_in_parts(path: Path, out: Path, splits: list[int]) -> tuple[list[dict[str, Any]], Counts]:
    whole, counts = read(path, out / "whole")
    for size in splits:
        rows, counted = read(path, out / str(size), size)
        assert rows == whole, size
        assert counted == counts
    return whole, counts


def page(number: int, size: int = 300) -> bytes:
    body = random.Random(number).randbytes(size // 2).hex().encode()
    return warc_record(http(HTML + body), url=f"http://a.example/{number}")


@pytest.mark.parametrize("kind", ["warc", "warc.gz", "arc", "arc.gz"])
def test_archives_are_the_same_in_parts(tmp_path: Path, kind: str) -> None:
    if "warc" in kind:
        records = [warc_record(b"software: x", kind="warcinfo"), *(page(n, 50 * n) for n in range(25)), warc_record(http(b""))]
    else:
        records = [b"filedesc://a.arc 0.0.0.0 20240501100000 text/plain 9\n1 0 test\n\n"]
        for n in range(30):
            block = http(HTML + str(n).encode() * n)
            records.append(f"http://a.example/{n} 127.0.0.1 20240501100000 text/html {len(block)}\n".encode() + block + b"\n")
    path = tmp_path / f"a.{kind}"
    path.write_bytes(gz(*records) if kind.endswith("gz") else b"".join(records))
    rows, counts = same_in_parts(path, tmp_path / "out", [1 << 20, 1500])
    assert counts.kept == (25 if "warc" in kind else 30)
    assert len(list_inputs(path, 1500)) > 2
    places = [int(row["source"].split("#")[1]) for row in rows if row["url"] != "http://a.example/"]
    data = path.read_bytes()
    head = b"\x1f\x8b" if kind.endswith("gz") else b"WARC/1.0" if "warc" in kind else b"http://"
    assert all(data[place:].startswith(head) for place in places)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_inside_a_page_is_not_taken_for_the_archive(tmp_path: Path, compressed: bool) -> None:
    """A part that begins inside a stored .warc.gz finds records there; the part before it knows better."""
    inner = gz(*(page(n) for n in range(60))) if compressed else b"\r\n" + b"".join(page(n) for n in range(60))
    records = [page(1000), warc_record(http(inner, content_type="text/plain"), url="http://a.example/inner"), page(1001)]
    if compressed:  # stored, not deflated, as gzip does with what is compressed already
        body = b"".join(gzip.compress(record, compresslevel=0, mtime=0) for record in records)
    else:
        body = b"".join(records)
    path = tmp_path / ("a.warc.gz" if compressed else "a.warc")
    path.write_bytes(body)
    sources = list_inputs(path, 2000)
    found = [ingest_file(source, tmp_path / f"part-{n}", IngestSettings()).kept for n, source in enumerate(sources)]
    assert sum(found) > 3, "the trap does not work"
    _, counts = same_in_parts(path, tmp_path / "out", [2000])
    assert counts.kept == 3


def test_a_kill_between_parts_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gz(*(page(n) for n in range(20))))
    whole, counts = read(path, tmp_path / "whole")
    sources = list_inputs(path, 1500)
    folders = [tmp_path / f"{n}" for n in range(len(sources))]
    for source, folder in zip(sources, folders, strict=True):
        ingest_file(source, folder, IngestSettings())
    (folders[2] / "seam.json").unlink()  # killed while this part was read again
    (folders[2] / "documents" / "part-00000.parquet").write_bytes(b"half")
    (folders[2] / "documents" / "part-00007.parquet").write_bytes(b"of an attempt with smaller shards")
    assert join_parts(sources, folders, IngestSettings()) == counts
    rows = [row for folder in folders for row in read_all(folder / "documents")]
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in whole)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 3000), cut=st.integers(0, 200), junk=st.binary(max_size=30), compressed=st.booleans(), split=st.integers(400, 2000)
)
def test_damaged_archives_are_the_same_in_parts(tmp_path: Path, at: int, cut: int, junk: bytes, compressed: bool, split: int) -> None:
    records = [page(n) for n in range(12)]
    whole = gz(*records) if compressed else b"".join(records)
    path = tmp_path / ("a.warc.gz" if compressed else "a.warc")
    path.write_bytes(whole[:at] + junk + whole[at + cut :])
    same_in_parts(path, tmp_path / "out", [split])


def test_lines_are_the_same_in_parts(tmp_path: Path) -> None:
    rows = [{"text": f"text {n} " + "x" * (n * 37 % 400), "url": f"http://a.example/{n}"} for n in range(100)]
    body = "\n".join([json.dumps(row) for row in rows] + ["", "{broken", "  ", '{"text": "the last line has no end"}']).encode()
    (tmp_path / "a.jsonl").write_bytes(body)
    plain, counts = same_in_parts(tmp_path / "a.jsonl", tmp_path / "out", [1 << 20, 4096, 1111])
    assert (counts.kept, counts.dropped) == (101, {"broken_record": 1})
    (tmp_path / "a.jsonl").unlink()
    streams = {
        "gz": gzip.compress(body), "bz2": bz2.compress(body[:2000]) + bz2.compress(body[2000:]),
        "xz": lzma.compress(body[:2000]) + bytes(4) + lzma.compress(body[2000:]), "zst": pa.Codec("zstd").compress(body, asbytes=True), "lz4": pa.Codec("lz4").compress(body, asbytes=True),
    }  # fmt: skip
    for ending, data in streams.items():
        path = tmp_path / f"a.jsonl.{ending}"
        path.write_bytes(data)
        compressed, counted = same_in_parts(path, tmp_path / ending, [500])
        assert counted == counts
        texts = {row["id"] for row in plain if row["text"]}
        assert {row["id"] for row in compressed if row["text"]} == texts and len(texts) == 101


def test_row_groups_are_the_same_in_parts(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {n}" for n in range(50)], "url": [None] * 50})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    rows, counts = same_in_parts(tmp_path / "a.parquet", tmp_path / "out", [1 << 20, 300, 1])
    assert (counts.kept, len(list_inputs(tmp_path / "a.parquet", 1))) == (50, 8)
    assert {row["source"]: row["text"] for row in rows}["a.parquet#33"] == "text 33"


@pytest.mark.parametrize("scheme", ["memory://crawl", "file://{folder}/crawl"])
def test_any_fsspec_url(tmp_path: Path, scheme: str) -> None:
    root = scheme.format(folder=tmp_path)
    files = {"a.warc.gz": gz(page(1), page(2)), "sub/b.jsonl": b'{"text": "a text"}', "sub/c.html": HTML, "d.txt": b"no"}
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["one", "two"]}), table)
    files["e.parquet"] = table.getvalue().to_pybytes()
    for name, content in files.items():
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as file:
            file.write(content)
    names = [source.name for source in list_inputs(root)]
    assert names == ["a.warc.gz", "e.parquet", "sub/b.jsonl", "sub/c.html"]
    rows, counts = read(root, tmp_path / "out", 200)
    assert counts == Counts(6, 6)
    assert [source.name for source in list_inputs(f"{root}/**/*.jsonl")] == ["sub/b.jsonl"]
    assert {row["source"].split("#")[0] for row in rows} == set(names)
    with pytest.raises(FileNotFoundError):
        list_inputs(f"{root}/absent")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="no password in a URL") as error:
        list_inputs("ftp://user:geheim@host/crawl")
    assert "geheim" not in str(error.value)


class _Far(io.BytesIO):
    """A far file whose connection breaks after so many bytes."""

    def __init__(self, content: bytes, left: int, error: OSError) -> None:
        super().__init__(content)
        self._left, self._error = left, error

    def read(self, size: int | None = -1) -> bytes:
        given = super().read(size)
        self._left -= len(given)
        if self._left < 0:
            raise self._error
        return given


def _packed(name: str) -> bytes:
    """Forty rows of six kilobytes as a file of that name."""
    rows = [{"text": random.Random(n).randbytes(3000).hex()} for n in range(40)]
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
        return sink.getvalue().to_pybytes()
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return {"jsonl": body, "gz": gzip.compress(body), "xz": lzma.compress(body), "zst": pa.Codec("zstd").compress(body, asbytes=True)}[name.rsplit(".", 1)[1]]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.xz", "a.jsonl.zst"])
def test_a_connection_that_breaks_is_no_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its rows would be lost without a word: the stage fails instead, and is begun again. A damaged file costs itself."""
    content = _packed(name)
    (tmp_path / name).write_bytes(content)
    [source] = list_inputs(tmp_path / name)
    for error in (TimeoutError("no answer"), OSError(errno.EIO, "Input/output error"), FileNotFoundError("gone")):
        monkeypatch.setattr("data.corpus.reading.rows.open_input", lambda path, error=error: _Far(content, 2 * len(content) // 3, error))
        with pytest.raises(type(error)) as caught:
            ingest_file(source, tmp_path / "far", IngestSettings())
        assert caught.value is error
    damaged = content[:10] + b"\xff" * 200 + content[210:]
    monkeypatch.setattr("data.corpus.reading.rows.open_input", lambda path: io.BytesIO(damaged))
    counts = ingest_file(source, tmp_path / "damaged", IngestSettings())
    assert set(counts.dropped) == {"a.parquet": {"unreadable_archive"}, "a.jsonl": set()}.get(name, {"truncated_record"})
