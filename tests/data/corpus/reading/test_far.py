"""A crawl that lies elsewhere: in a bucket (moto's S3 server) and behind a web server; the documents of the same files here."""

from __future__ import annotations

import functools
import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from data.corpus.duplicates.index import index_shards, local_copies
from data.corpus.reading.inputs import list_inputs
from data.settings import DedupSettings
from tasks.store.fingerprints import hash_files
from tests.data.corpus.duplicates.test_earlier import NEAR, ROWS, _clean
from tests.data.corpus.helpers import gz
from tests.data.corpus.reading.test_inputs import page, read


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket's URL. The client finds server and keys in its environment, as a user's does."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        given = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in given.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("crawl")
        yield "s3://crawl"
    server.stop()


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """A WARC in members, one with a broken end, and JSON lines, plain and compressed as one stream."""
    folder = tmp_path / "crawl"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.warc.gz").write_bytes(gz(*(page(n, 2000) for n in range(30))))
    (folder / "b.warc.gz").write_bytes(gz(page(100), page(101))[:-20])
    lines = b"".join(b'{"text": "line %d", "url": "http://b.example/%d"}\n' % (n, n) for n in range(200))
    (folder / "sub/c.jsonl").write_bytes(lines + b"{broken\n")
    (folder / "sub/d.jsonl.gz").write_bytes(gzip.compress(lines[:4000]))
    return folder


def test_a_crawl_in_a_bucket(crawl: Path, s3: str, tmp_path: Path) -> None:
    """Whole, in parts, by folder, glob and name; its fingerprint comes from the bucket's tags and follows the content."""
    fs = fsspec.filesystem("s3")
    fs.put(f"{crawl}/", "crawl/2024/", recursive=True)
    expected, counts = read(crawl, tmp_path / "here")
    assert counts.dropped and counts.kept > 250
    for number, split in enumerate((None, 8000)):
        assert read(f"{s3}/2024", tmp_path / f"far-{number}", split) == (expected, counts)
    assert len(list_inputs(f"{s3}/2024", 8000)) > 6
    assert [source.name for source in list_inputs(f"{s3}/2024/**/*.jsonl")] == ["sub/c.jsonl"]
    rows, _ = read(f"{s3}/2024/a.warc.gz", tmp_path / "one")
    assert len(rows) == 30
    before = hash_files(f"{s3}/2024")
    fs.pipe_file("crawl/2024/sub/c.jsonl", b'{"text": "another"}')
    assert hash_files(f"{s3}/2024") != before
    with pytest.raises(FileNotFoundError, match="s3://crawl/2025"):
        list_inputs(f"{s3}/2025")


def test_an_earlier_corpus_in_a_bucket(s3: str, tmp_path: Path) -> None:
    _clean(tmp_path / "one", ROWS)
    fsspec.filesystem("s3").put(f"{tmp_path}/one/corpus/", "crawl/store/corpus/abc/", recursive=True)
    shards = index_shards(f"{s3}/store/corpus/abc", DedupSettings())
    assert shards == ["s3://crawl/store/corpus/abc/index/part-00000.parquet"]
    assert local_copies(shards, tmp_path / "copies")[0].read_bytes() == (tmp_path / "one/corpus/index/part-00000.parquet").read_bytes()
    assert _clean(tmp_path / "two", {"n": NEAR}, earlier=[f"{s3}/store/corpus/abc"]).dropped == {"earlier_duplicate": 1}


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's file server, with the ranges that object stores and big web servers answer, or without."""

    ranges = True

    def do_GET(self) -> None:
        given = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not (self.ranges and given and path.is_file()):
            return super().do_GET()
        first, last = (int(part) if part else None for part in given.removeprefix("bytes=").split("-"))
        body = path.read_bytes()
        part = body[first : None if last is None else last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{(first or 0) + len(part) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def end_headers(self) -> None:
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def web(crawl: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Handler", (_Ranges,), {"ranges": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(crawl))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_crawl_behind_a_web_server(crawl: Path, web: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http by aiohttp (extra s3 brings it)")
    for name in ("a.warc.gz", "sub/c.jsonl"):
        expected, counts = read(crawl / name, tmp_path / "here" / name)
        assert read(f"{web}/{name}", tmp_path / "far" / name, 8000) == (expected, counts)
    assert len(hash_files(f"{web}/a.warc.gz")) == 24
