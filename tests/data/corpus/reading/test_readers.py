from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus.reading.dates import iso_date
from data.corpus.reading.inputs import list_inputs
from data.corpus.reading.readers import check_kept, ingest_file
from data.document import Counts
from data.settings import IngestSettings
from tests.data.corpus.helpers import REAL, gz, http, read_all, warc_record

HTML = b"<html><body><p>Hello</p></body></html>"


def ingest(path: Path, out: Path, **changes: int) -> Counts:
    total = Counts()
    for number, source in enumerate(list_inputs(path)):
        counts = ingest_file(source, out / str(number), IngestSettings(**changes))  # type: ignore[arg-type]
        rows = read_all(out / str(number) / "documents") + read_all(out / str(number) / "dropped")
        assert len(rows) == counts.documents_in
        total += counts
    return total


def test_inputs_by_name(tmp_path: Path) -> None:
    for name in ("b.warc.gz", "a.jsonl", "sub/c.arc", "notes.txt", "d.html", "sub/e.htm", ".hidden/x.warc", "f.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    inputs = list_inputs(tmp_path)
    assert [item.name for item in inputs] == ["a.jsonl", "b.warc.gz", "d.html", "f.parquet", "sub/c.arc"]
    assert [item.kind for item in inputs] == ["jsonl", "warc", "html", "parquet", "arc"]
    assert inputs[2].names == ("d.html", "sub/e.htm")
    assert [item.name for item in list_inputs(str(tmp_path / "*.warc.gz"))] == ["b.warc.gz"]
    assert [item.name for item in list_inputs(f"{tmp_path}/**/*.arc")] == ["sub/c.arc"]
    with pytest.raises(FileNotFoundError):
        list_inputs(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ValueError, match="not a file we read"):
        list_inputs(tmp_path / "notes.txt")


@pytest.mark.parametrize("compressed", [False, True])
def test_warc(tmp_path: Path, compressed: bool) -> None:
    records = [
        warc_record(b"software: x", kind="warcinfo"),
        warc_record(b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        warc_record(http(HTML), url="<http://a.example/1 2>"),
        warc_record(http(b"", status="302 Found")),
        warc_record(http(b"%PDF", content_type="application/pdf")),
        warc_record(http(b"   ")),
        warc_record(b"no http at all"),
        warc_record(http(b"plain words", content_type="text/plain")),
        warc_record(http(HTML + bytes(3 << 20))),
        warc_record(b"made of text", kind="conversion", Content_Type="text/plain"),
        warc_record(b"wget log", kind="resource", url="metadata://gnu.org/log", Content_Type="text/plain"),
    ]
    path = tmp_path / ("a.warc.gz" if compressed else "a.warc")
    path.write_bytes(gz(*records) if compressed else b"".join(records))
    counts = ingest(path, tmp_path / "out", max_record_megabytes=2)
    reasons = {"http_status": 1, "not_html": 1, "empty_record": 1, "broken_record": 1, "too_large": 1}
    assert counts == Counts(8, 3, reasons)
    kept = read_all(tmp_path / "out/0/documents")
    sizes = [len(gz(record)) if compressed else len(record) for record in records]
    assert [row["source"] for row in kept] == [f"{path.name}#{sum(sizes[:n])}" for n in (2, 7, 9)]
    assert kept[0]["html"] == HTML
    assert kept[0]["url"] == "http://a.example/1 2"
    assert kept[0]["date"] == "2024-05-01T10:00:00Z"
    assert [row["text"] for row in kept] == [None, "plain words", "made of text"]


def test_a_truncated_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    whole = gz(warc_record(http(HTML)), warc_record(http(HTML * 50), url="http://b.example/"))
    (tmp_path / "a.warc.gz").write_bytes(whole[:-60])
    counts = ingest(tmp_path / "a.warc.gz", tmp_path / "out")
    assert counts == Counts(2, 1, {"truncated_record": 1})


def test_a_damaged_member_costs_itself(tmp_path: Path) -> None:
    members = [gz(warc_record(http(HTML * n), url=f"http://a.example/{n}")) for n in range(1, 5)]
    members[1] = members[1][:40] + b"\xff" * 20 + members[1][60:]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(members))
    counts = ingest(tmp_path / "a.warc.gz", tmp_path / "out")
    assert counts.kept == 3
    assert counts.documents_in == 4


def test_a_wrong_length_costs_itself(tmp_path: Path) -> None:
    wrong = warc_record(http(HTML), Content_Length="20")
    missing = warc_record(http(HTML), Content_Length="many")
    (tmp_path / "a.warc").write_bytes(wrong + missing + warc_record(http(HTML), url="http://c.example/"))
    counts = ingest(tmp_path / "a.warc", tmp_path / "out")
    assert [row["url"] for row in read_all(tmp_path / "out/0/documents")] == ["http://c.example/"]
    assert counts.dropped.keys() <= {"broken_record", "empty_record"}


@pytest.mark.parametrize("packed", ["plain", "members", "one member", "arc", "arc members"])
def test_a_length_that_runs_to_the_end_of_the_file_costs_itself(tmp_path: Path, packed: str) -> None:
    """The records behind it were taken for its block."""
    if packed.startswith("arc"):
        heads = [f"http://{name}.example/ 1.2.3.4 20240501100000 text/html {length}\n" for name, length in (("a", 38), ("b", 9038), ("c", 38), ("d", 38))]
        records = [head.encode() + HTML + b"\n" for head in heads]
    else:
        records = [warc_record(http(HTML), url=f"http://{name}.example/", **lie) for name, lie in (("a", {}), ("b", {"Content_Length": "9000"}), ("c", {}), ("d", {}))]
    path = tmp_path / f"a.{'arc' if packed.startswith('arc') else 'warc'}"
    path.write_bytes(gz(*records) if packed.endswith("members") else gz(b"".join(records)) if packed == "one member" else b"".join(records))
    assert ingest(path, tmp_path / "out") == Counts(4, 3, {"broken_record": 1})
    kept = read_all(tmp_path / "out/0/documents")
    assert [(row["url"], row["html"]) for row in kept] == [(f"http://{name}.example/", HTML) for name in "acd"]
    sizes = [len(gz(record)) if packed.endswith("members") else len(record) for record in records]
    starts = [f"0+{sum(sizes[:n])}" if packed == "one member" and n else str(sum(sizes[:n])) for n in (0, 2, 3)]
    assert [row["source"] for row in kept] == [f"{path.name}#{start}" for start in starts]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_length_beyond_what_is_held_of_a_record_costs_itself(tmp_path: Path, compressed: bool) -> None:
    records = [warc_record(http(HTML + bytes(300_000)), url=f"http://a.example/{n}", **({"Content_Length": "99000000"} if n == 1 else {})) for n in range(9)]
    path = tmp_path / "a.warc"
    path.write_bytes(gz(*records) if compressed else b"".join(records))
    assert ingest(path, tmp_path / "out", max_record_megabytes=1) == Counts(9, 8, {"broken_record": 1})


@pytest.mark.parametrize("members", [False, True])
def test_a_length_that_runs_over_some_records_costs_itself(tmp_path: Path, members: bool) -> None:
    records = [warc_record(http(HTML), url=f"http://a.example/{n}") for n in range(9)]
    length = len(http(HTML)) + 2 * len(records[0]) + 50
    records[1] = warc_record(http(HTML), url="http://a.example/1", Content_Length=str(length))
    path = tmp_path / "a.warc"
    path.write_bytes(gz(b"".join(records[:5]), *records[5:]) if members else b"".join(records))
    assert ingest(path, tmp_path / "out") == Counts(9, 8, {"broken_record": 1})
    assert all(row["html"] == HTML for row in read_all(tmp_path / "out/0/documents"))


def test_lengths_that_all_run_to_the_end_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(warc_record(b"x", Content_Length="99999999") * 20_000)
    assert ingest(path, tmp_path / "out").dropped.keys() == {"broken_record", "truncated_record"}


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = warc_record(http(gzip.compress(bytes(100 << 20)), Content_Encoding="gzip"))
    (tmp_path / "a.warc.gz").write_bytes(gz(bomb, warc_record(http(HTML))))
    assert ingest(tmp_path / "a.warc.gz", tmp_path / "out", max_record_megabytes=1) == Counts(2, 1, {"too_large": 1})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 2000), at=st.integers(0, 2000), junk=st.binary(max_size=40), compressed=st.booleans())
def test_damaged_archives_stop_nothing(tmp_path: Path, cut: int, at: int, junk: bytes, compressed: bool) -> None:
    records = [warc_record(http(HTML * n), url=f"http://a.example/{n}") for n in range(1, 4)]
    whole = gz(*records) if compressed else b"".join(records)
    path = tmp_path / "a.warc"
    path.write_bytes((whole[:at] + junk + whole[at:])[: len(whole) - cut])
    ingest(path, tmp_path / "out")


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"text": "a text", "url": "http://a.example/", "date": "2024-05-01", "other": 1},
        {"html": "<p>page</p>"},
        {"text": "lone \ud800 surrogate and \0 nul"},
        {"text": "  "},
        {"title": "no text"},
        {"text": "x" * (2 << 20)},
    ]
    lines = [json.dumps(row) for row in rows] + ["{broken", "", '["list"]', "[" * 100_000]
    body = "\n".join(lines).encode()
    (tmp_path / "a.jsonl").write_bytes(body)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(body))
    with pa.CompressedOutputStream(str(tmp_path / "c.jsonl.zst"), "zstd") as out:
        out.write(body)
    expected = Counts(9, 3, {"empty_record": 1, "broken_record": 4, "too_large": 1})
    for number, source in enumerate(list_inputs(tmp_path)):
        assert ingest_file(source, tmp_path / str(number), IngestSettings(max_record_megabytes=1)) == expected
        kept = read_all(tmp_path / str(number) / "documents")
        assert [row["text"] for row in kept] == ["a text", None, "lone  surrogate and  nul"]
        assert kept[0]["date"] == "2024-05-01T00:00:00Z"
        assert kept[1]["html"] == b"<p>page</p>"


LONG = "山谷里的人起得很早，清早的街上到处是人声，河水从山里流下来，绕过镇子慢慢流走。"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf" + b'{"text": "one"}\r\n{"text": "two"}', ["one", "two"]),
        (json.dumps({"text": LONG, "n": 10**30}, ensure_ascii=False).encode("gb18030"), [LONG]),
        (json.dumps({"text": "Das Café an der Brücke hat über dreißig Gäste."}, ensure_ascii=False).encode("cp1252"), ["Das Café an der Brücke hat über dreißig Gäste."]),
        (b'[{"text": "one"}, {"text": "two"}, 3]', ["one", "two", "broken_record: not a JSON object"]),
        (json.dumps([{"text": "one"}, {"text": None}], indent=2).encode(), ["one", "empty_record: None"]),
        (json.dumps({"url": "http://a.example/", "text": "one"}, indent=2).encode(), ["one"]),
        (b'{"text": "cut off\n{"text": "two"}', ["broken_record: not a JSON object", "two"]),
        (b'[{"text": "one"}, {"text": "tw', ["broken_record: no JSON array"]),
        (b'[{"text": "' + b"x" * (1 << 20) + b'"}]', ["too_large: a JSON array of more than 1048576 bytes; write one object a line, as jq -c '.[]' does"]),
        ('{"text": "one"}'.encode("utf-16"), ["broken_record: UTF-16; write JSON in UTF-8"]),
        (b'{"text": " ", "html": "<p>page</p>"}\n{"text": "", "html": ""}', ["<p>page</p>", "empty_record: None"]),
        (b'{"text": 5}', ["broken_record: ingest.text_field: 'text' holds no text: int"]),
        (b'{"content": "x", "id": 1}', ["broken_record: no field 'text' or 'html' (ingest.text_field, ingest.html_field); there is content, id"]),
    ],
)
def test_json_of_every_form(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    """Whole and in parts: kept texts, and what was dropped with its value, in the file's order."""
    (tmp_path / "a.json").write_bytes(content)
    settings = IngestSettings(max_record_megabytes=1)
    for split in (None, max(40, len(content) // 3)):
        found: dict[int, str] = {}
        for number, source in enumerate(list_inputs(tmp_path / "a.json", split)):
            ingest_file(source, tmp_path / f"{split}-{number}", settings)
            rows = [row for kind in ("documents", "dropped") for row in read_all(tmp_path / f"{split}-{number}" / kind)]
            found |= {int(row["source"].split("#")[1]): f"{row['reason']}: {row['value']}" if "reason" in row else row["text"] or row["html"].decode() for row in rows}
        assert [found[place] for place in sorted(found)] == expected


def test_fields_may_be_paths(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"raw": {"body": "a text"}, "meta": {"url": "http://a.example/", "time": 1601010101}}, {"raw": "x", "meta.url": "http://b.example/"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "b.parquet")
    settings = IngestSettings(text_field="raw.body", url_field="meta.url", date_field="meta.time")
    for number, source in enumerate(list_inputs(tmp_path)):
        ingest_file(source, tmp_path / str(number), settings)
        [row] = read_all(tmp_path / str(number) / "documents")
        assert (row["text"], row["url"], row["date"]) == ("a text", "http://a.example/", "2020-09-25T05:01:41Z")


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", None, "three"], "url": ["http://a.example", None, None], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    counts = ingest(tmp_path, tmp_path / "out")
    assert counts == Counts(4, 2, {"empty_record": 1, "unreadable_archive": 1})


def test_html_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.html").write_bytes(b'<link rel="canonical" href="http://a.example/x"><p>hi')
    (tmp_path / "in/b.html").write_bytes(b"")
    counts = ingest(tmp_path / "in", tmp_path / "out")
    assert counts == Counts(2, 1, {"empty_record": 1})
    (row,) = read_all(tmp_path / "out/0/documents")
    assert (row["source"], row["url"]) == ("a.html#0", "http://a.example/x")


def test_a_mirrored_site(tmp_path: Path) -> None:
    """Pages by any name that a mirror gives them; what turns out to be none is dropped, and no page is known by half an address."""
    names = {"index.php?id=3": HTML, "about": HTML, "深/x.shtml": HTML, "a b.html": HTML, "LICENSE": b"MIT", "lib.php": b"<?php echo 1;"}
    for name, content in {**names, "_SUCCESS": b"", "logo.png": b"\x89PNG", "c.html": b'<link rel="canonical" href="/post/1">' + HTML}.items():
        (tmp_path / "in [2024]" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in [2024]" / name).write_bytes(content)
    assert ingest(tmp_path / "in [2024]", tmp_path / "out") == Counts(7, 5, {"not_html": 2})
    assert not any(row["url"] for row in read_all(tmp_path / "out/0/documents"))


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"HTTP/2 200\r\ncontent-type: text/html\r\n\r\n" + HTML, None),
        (b"HTTP/1.1 200OK\r\ncontent-type: text/html\r\n\r\n" + HTML, None),
        (http(HTML, content_type="text/html, text/html; charset=utf-8"), None),
        (http(HTML, content_type="application/vnd.wap.xhtml+xml"), None),
        (http(b'<?xml version="1.0"?><HTML xmlns="x"><p>hi</HTML>', content_type="text/xml"), None),
        (http(b'<?xml version="1.0"?><rss><item><description>words</description></item></rss>', content_type="text/xml"), "not_html"),
        (b"HTTP/1.1 2000\r\n\r\n" + HTML, "broken_record"),
    ],
)
def test_what_servers_send(tmp_path: Path, response: bytes, reason: str | None) -> None:
    (tmp_path / "a.warc").write_bytes(warc_record(response))
    assert ingest(tmp_path / "a.warc", tmp_path / "out") == (Counts(1, 0, {reason: 1}) if reason else Counts(1, 1))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b'{"content": "x"}\n{"text": ""}', r"no page: 1 broken_record, 1 empty_record; the first is a.jsonl#0: broken_record, no field 'text'.*there is content"),
        (b"", "none of its records is a response"),
    ],
)
def test_a_crawl_without_a_page_is_an_error_that_says_why(tmp_path: Path, records: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(records)
    counts = ingest(tmp_path / "a.jsonl", tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        check_kept(counts, [tmp_path / "out/0"])
    check_kept(Counts(2, 1, {"empty_record": 1}), [])


def test_shards_are_bounded_and_ids_do_not_depend_on_them(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"".join(warc_record(http(HTML * n), url=f"http://a.example/{n}") for n in range(1, 8)))
    ingest(tmp_path / "a.warc", tmp_path / "one")
    ingest(tmp_path / "a.warc", tmp_path / "many", shard_documents=2)
    assert len(list((tmp_path / "many/0/documents").iterdir())) == 4
    assert read_all(tmp_path / "one/0/documents") == read_all(tmp_path / "many/0/documents")


def test_an_empty_file_is_one_unreadable_record(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"")
    assert ingest(tmp_path, tmp_path / "out") == Counts(1, 0, {"unreadable_archive": 1})


@pytest.mark.parametrize(
    ("date", "iso"),
    [
        ("2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00Z"),
        ("20140216050221", "2014-02-16T05:02:21Z"),
        ("201404010000000000", "2014-04-01T00:00:00Z"),
        ("2017-03-06T04:03:53.123456Z", "2017-03-06T04:03:53Z"),
        ("1601010101", "2020-09-25T05:01:41Z"), ("1601010101.5", "2020-09-25T05:01:41Z"), ("1601010101000", "2020-09-25T05:01:41Z"),
        ("20240501", "2024-05-01T00:00:00Z"), ("202405011200", "2024-05-01T12:00:00Z"), ("True", None),
        ("2019", "2019-01-01T00:00:00Z"), ("2024-05", "2024-05-01T00:00:00Z"), ("2024/05/01", "2024-05-01T00:00:00Z"), ("2024/5/1 12:30", "2024-05-01T12:30:00Z"),
        ("2024年5月1日", "2024-05-01T00:00:00Z"), ("2024年5月", "2024-05-01T00:00:00Z"), ("2024.05.01", "2024-05-01T00:00:00Z"), ("0999-05-01", "0999-05-01T00:00:00Z"),
        ("Wed, 01 May 2024 12:00:00 +0200", "2024-05-01T10:00:00Z"), ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
        ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"), ("05/01/2024", None), ("2019.5", None), ("201905", None), ("2024-13", None), ("1234", None), ("2024/05-x", None),
        ("yesterday", None), ("", None), (None, None), ("99999999", None),
    ],
)  # fmt: skip
def test_dates(date: str | None, iso: str | None) -> None:
    assert iso_date(date) == iso


EDGE_CASES = {
    "bad.arc": Counts(3, 0, {"broken_record": 2, "empty_record": 1}),
    "example-bad-non-chunked.warc.gz": Counts(1, 1),
    "example-bad.warc.gz.bad": Counts(2, 1, {"http_status": 1}),
    "example-digest.warc": Counts(0, 0),
    "example-iana.org-chunked.warc": Counts(1, 1),
    "example-resource.warc.gz": Counts(1, 1),
    "example-space-in-target-uri.warc.gz": Counts(1, 0, {"not_html": 1}),
    "example-space-in-url.arc": Counts(1, 1),
    "example-trunc.warc": Counts(1, 1),
    "example-wget-bad-target-uri.warc.gz": Counts(1, 1),
    "example-wrong-chunks.warc.gz": Counts(1, 1),
    "example.arc": Counts(1, 1),
    "example.arc.gz": Counts(1, 1),
    "example.warc": Counts(1, 1),
    "example.warc.gz": Counts(1, 1),
    "post-test.warc.gz": Counts(3, 0, {"not_html": 3}),
}


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/real")
@pytest.mark.parametrize("name", sorted(EDGE_CASES))
def test_real_edge_cases(name: str, tmp_path: Path) -> None:
    assert ingest(REAL / "warc_edge_cases" / name, tmp_path) == EDGE_CASES[name]


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/real")
def test_real_crawl(tmp_path: Path) -> None:
    assert ingest(REAL / "warc_crawl", tmp_path).kept == 37
