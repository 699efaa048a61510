"""The crawl as the task reads it: named by what is in it, in parts, and on after a kill."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import fsspec
import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data.corpus.reading import readers
from data.settings import IngestSettings
from tasks import ingest as module
from tasks.ingest import ingest
from tasks.stage import Made, Run
from tasks.store import artifacts
from tasks.store.fingerprints import hash_files
from tests.data.corpus.helpers import gz, http, read_all, warc_record


def crawl(path: Path) -> Path:
    """Some 3 MB of pages that do not compress."""
    bodies = [b"<html><p>" + random.Random(n).randbytes(40_000).hex().encode() for n in range(80)]
    path.write_bytes(gz(*(warc_record(http(body), url=f"http://a.example/{n}") for n, body in enumerate(bodies))))
    return path


def run_ingest(corpus: list[str], store: Path, settings: IngestSettings) -> tuple[Made, list[dict[str, Any]]]:
    run = Run(store=str(store), workers=2)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
    def reading() -> Made:
        return ingest(run, corpus, settings).result()  # type: ignore[no-any-return]

    made = reading()
    return made, read_all(run.local(made.artifact) / "documents")


@pytest.mark.usefixtures("prefect_server")
def test_a_split_file_gives_the_same_artifact_and_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crawl(tmp_path / "a.warc.gz")
    whole, expected = run_ingest([str(path)], tmp_path / "one", IngestSettings())
    assert whole.counts["kept"] == 80
    read: list[int] = []
    killed: list[int] = []
    once = readers.ingest_file

    def killed_in_the_last_part(source: Any, *rest: Any) -> Any:
        if source.end is None and not killed:
            killed.append(source.start)
            raise KeyboardInterrupt
        read.append(source.start)
        return once(source, *rest)

    monkeypatch.setattr(readers, "ingest_file", killed_in_the_last_part)
    settings = IngestSettings(split_megabytes=1)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - a kill is no Exception
        run_ingest([str(path)], tmp_path / "two", settings)
    assert killed and killed[0] not in read
    made, rows = run_ingest([str(path)], tmp_path / "two", settings)
    assert len(read) == len(set(read)) == 4, "what was read is not read again"
    assert (rows, made.counts, made.artifact.fingerprint) == (expected, whole.counts, whole.artifact.fingerprint)


def test_a_kill_while_the_artifact_is_published_loses_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large crawl's files are hashed for minutes, and by then every part of it is noted as done."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": ""}\n')
    run, killed, describe = Run(store=str(tmp_path / "store")), [], artifacts._describe

    def killed_once(folder: Path) -> Any:
        if not killed:
            killed.append(folder)
            raise KeyboardInterrupt
        return describe(folder)

    monkeypatch.setattr(artifacts, "_describe", killed_once)
    settings = IngestSettings(shard_documents=1)
    with pytest.raises(KeyboardInterrupt):
        ingest.fn(run, [str(tmp_path / "a.jsonl")], settings)
    made: Made = ingest.fn(run, [str(tmp_path / "a.jsonl")], settings).data  # type: ignore[assignment]
    folder = run.local(made.artifact)
    assert made.counts == {"documents_in": 3, "kept": 2, "dropped": {"empty_record": 1}}
    assert [row["text"] for row in read_all(folder / "documents")] == ["one", "two"]
    assert [row["reason"] for row in read_all(folder / "dropped")] == ["empty_record"]


@pytest.mark.usefixtures("prefect_server")
def test_several_entries_and_any_url(tmp_path: Path) -> None:
    with fsspec.open("memory://test_ingest/x/b.jsonl", "wb") as file:
        file.write(b'{"text": "in memory"}')
    (tmp_path / "b.jsonl").write_text('{"text": "in a file"}')
    _, rows = run_ingest(["memory://test_ingest/x", str(tmp_path / "b.jsonl")], tmp_path / "store", IngestSettings())
    assert {row["source"]: row["text"] for row in rows} == {"0-x/b.jsonl#0": "in memory", "1-b.jsonl/b.jsonl#0": "in a file"}


def test_what_a_crawl_is_known_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    known = hash_files(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("[]")
    assert hash_files(str(tmp_path)) != known
    plain = module._fingerprinted(f"dataset:{tmp_path}")
    assert plain.fingerprint == f"{hash_files(str(tmp_path))}/None/train"
    assert module._fingerprinted(f"dataset:{tmp_path}?split=test").fingerprint != plain.fingerprint
    with pytest.raises(ValueError, match="no password"):
        module._fingerprinted("s3://key:secret@bucket/crawl")
    # An object store's tag stands for the content.
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/test_ingest/y", b"content")
    tags = {"ETag": "one", "size": 7, "type": "file", "name": "/test_ingest/y"}
    monkeypatch.setattr(type(memory), "info", lambda self, path, **rest: tags)
    tagged = hash_files("memory://test_ingest/y")
    tags["ETag"] = "two"
    assert hash_files("memory://test_ingest/y") != tagged
