"""Hostile input: every record is accounted for, nothing hangs, no memory runs away."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus.reading.inputs import list_inputs
from data.corpus.reading.readers import ingest_file, join_parts
from data.document import Counts
from data.settings import IngestSettings
from data.text import clean_text
from tests.conftest import ROOT
from tests.data.corpus import hostile
from tests.data.corpus.helpers import read_all

SETTINGS = IngestSettings(max_record_megabytes=4)
GOOD_FILES = {
    "pages.warc.gz": hostile.gz(*(hostile._record(hostile.GOOD, n) for n in range(3))),
    "lines.jsonl": b'{"text": "one"}\n{"text": "two"}\n' * 20,
    "table.parquet": hostile.tables()["large.parquet"],
}


def ingest(folder: Path, out: Path, split_bytes: int | None = None) -> tuple[Counts, list[dict[str, Any]]]:
    sources = list_inputs(folder, split_bytes)
    folders = [out / f"{number:05d}" for number in range(len(sources))]
    for source, place in zip(sources, folders, strict=True):
        ingest_file(source, place, SETTINGS)
    counts = join_parts(sources, folders, SETTINGS)
    counts.check()
    rows = [row for place in folders for kind in ("documents", "dropped") for row in read_all(place / kind)]
    assert len(rows) == counts.documents_in
    assert len({row["source"] for row in rows}) == len(rows), "a record has a name of its own"
    return counts, rows


def test_hostile_files_are_read_record_by_record(tmp_path: Path) -> None:
    hostile.write(tmp_path / "in", megabytes=8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    counts, rows = ingest(tmp_path / "in", tmp_path / "out", 1 << 17)
    assert time.process_time() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10, "KiB"
    assert counts.dropped["too_large"] == 3 + 3 + 1 + 30  # archives, lines, a page, values
    after = {row["text"] for row in rows if row["source"].startswith("one_line")}
    assert "after the bomb" in after
    good = [row["source"].split("#")[0] for row in rows if row.get("html") == hostile.GOOD]
    assert {"member.warc.gz", "content.warc.gz", "twice.warc.gz", "nuls_before.warc.gz", "short_length.warc"} <= set(good)
    assert good.count("truncated.warc.gz") == good.count("corrupt.warc.gz") == good.count("duplicates.warc.gz") == 3
    for row in rows:
        for name in ("text", "url", "source", "reason", "value"):
            assert clean_text(row.get(name) or "") == (row.get(name) or ""), row["source"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(GOOD_FILES)), at=st.floats(0, 1), cut=st.integers(0, 300), junk=st.binary(max_size=60), split=st.booleans())
def test_any_damage_is_survived(tmp_path: Path, name: str, at: float, cut: int, junk: bytes, split: bool) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    content = GOOD_FILES[name]
    place = int(at * len(content))
    (tmp_path / name).write_bytes(content[:place] + junk + content[place + cut :])
    ingest(tmp_path / name, tmp_path / "out", 500 if split else None)


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "folder.warc").mkdir(parents=True)
    (folder / "nowhere.warc").symlink_to(tmp_path / "absent")
    (folder / "there.jsonl").symlink_to(tmp_path / "real.jsonl")
    (tmp_path / "real.jsonl").write_text('{"text": "linked"}')
    os.mkfifo(folder / "pipe.jsonl")
    for name in (b"line\nbreak.jsonl", b"\xff\xfe.jsonl", "名字.jsonl".encode()):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text('{"text": "odd name"}')
    counts, _ = ingest(folder, tmp_path / "out")
    assert counts == Counts(4, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hostile_files_through_every_stage(tmp_path: Path) -> None:
    """In a process of its own, so that its memory can be told: a page of 50 MB costs its limit."""
    program = (
        "import json, resource, sys; from pathlib import Path\n"
        "from data.corpus.extraction import close_idle\n"
        "from tests.data.corpus.test_pipeline import clean\n"
        "root = Path(sys.argv[1])\n"
        "counts = clean(root / 'in', root / 'out')\n"
        "close_idle()\n"
        "own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))\n"
        "print(json.dumps({'in': counts.documents_in, 'kept': counts.kept, 'own': own >> 10, 'child': child >> 10}))\n"
    )
    hostile.write(tmp_path / "in")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["kept"] >= 1  # the good page, once
    assert measured["own"] < 1500 and measured["child"] < 2600, measured  # MiB; a child may have 2 GiB
