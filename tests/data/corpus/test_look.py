"""A person looks at what was dropped."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data.corpus.look import main
from data.document import DROPPED_SCHEMA
from data.shards import shard_name, write_shard

ROWS = [
    {"id": f"{number:032x}", "source": f"a#{number}", "url": f"http://a.example/{number}", "text": f"Text {number}\nmail me@b.example\x9b31m\u202e", "reason": reason, "value": "0.5"}
    for number, reason in enumerate(["short"] * 5 + ["language"] * 2 + ["short"])
]  # fmt: skip
NOTHING_READ = {"id": "f" * 32, "source": "a#9", "url": None, "text": None, "reason": "too_large", "value": None}


def _artifact(folder: Path, cuts: int) -> str:
    rows = [*ROWS, NOTHING_READ]
    for index, at in enumerate(range(0, len(rows), cuts)):
        write_shard(folder / "corpus/abc/dropped" / shard_name(index), pa.Table.from_pylist(rows[at : at + cuts], DROPPED_SCHEMA))
    return str(folder / "corpus/abc")


def test_some_of_each_reason_whatever_the_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([_artifact(tmp_path / "one", 100), "--documents", "2"]) == 0
    said = capsys.readouterr().out
    heads = [line for line in said.splitlines() if line and not line.startswith(" ")]
    assert heads == ["corpus · short: 6 documents", "corpus · language: 2 documents", "corpus · too_large: 1 documents"]
    assert said.count("http://a.example/") == 4 and said.count("0.5 · http") == 4
    assert "<EMAIL>\ufffd31m\ufffd" in said and "b.example" not in said.replace("a.example", "")
    assert main([_artifact(tmp_path / "two", 2), "--documents", "2"]) == 0
    assert capsys.readouterr().out == said
    assert main([_artifact(tmp_path / "two", 2), "--documents", "2", "--seed", "5"]) == 0
    assert capsys.readouterr().out != said


def test_one_reason_and_the_beginning_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "lines/abc"
    write_shard(other / "dropped" / shard_name(0), pa.Table.from_pylist([NOTHING_READ], DROPPED_SCHEMA))
    assert main([str(other), _artifact(tmp_path, 3), "--reason", "language", "--documents", "9", "--characters", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "corpus · language: 2 documents" and lines.count("    Text…") == 2


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([_artifact(tmp_path, 3), "--reason", "boring"]) == 2
    assert "nothing was dropped as boring; there are: language, short, too_large" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "no dropped/part-*.parquet there; name the artifact" in capsys.readouterr().err
