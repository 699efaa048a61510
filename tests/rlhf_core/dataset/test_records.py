"""Lines of JSON that are no records: named by file and line, never read as something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.dataset.records import parse_record, read_records
from rlhf_core.job.errors import BadInput
from tests.rlhf_core import toy

GOOD = toy.record(1, [("user", "Say it."), ("assistant", "Orsk.")])
HALF = "\ud83d"  # of a pair: JSON can spell it alone, UTF-8 cannot


@pytest.mark.parametrize(
    "wrong",
    [
        {"turns": []},
        {"turns": [{"role": "user", "text": None}]},
        {"turns": [{"role": "user", "text": 5}]},
        {"turns": [{"role": "user", "text": HALF}]},
        {"turns": [{"role": "assistant", "text": "I begin."}]},
        {"turns": [{"role": "<|user|>", "text": "x"}]},
        {"turns": "Say it."},
        {"responses": ["Orsk.", None]},
        {"responses": [HALF]},
        {"system": ["Be short."]},
        {"system": HALF},
        {"id": HALF},
        {"lang": ["en"]},
        {"labels": ["good"]},
        {"responses": ["Tarn.", "Ruk."]},
    ],
    ids=repr,
)
def test_what_is_no_record_is_named_by_its_line(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD | wrong)}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"train\.jsonl, line 3: .* is no record"):
        read_records(path)


def test_a_files_mark_and_windows_lines_are_read_and_other_encodings_named(tmp_path: Path) -> None:
    path, text = tmp_path / "train.jsonl", json.dumps(GOOD | {"system": "说中文"}, ensure_ascii=False)
    path.write_bytes(f"{text}\r\n{text}\r\n".encode("utf-8-sig"))
    assert [record.system for record in read_records(path)] == ["说中文"] * 2
    path.write_bytes(f"{json.dumps(GOOD)}\n{text}\n".encode("gb18030"))
    with pytest.raises(BadInput, match=r"train\.jsonl, line 2: .* write the file in UTF-8, such as by iconv -f GB18030"):
        read_records(path)
    path.write_text("[" * 100_000)
    with pytest.raises(BadInput, match=r"line 1: RecursionError"):
        read_records(path)


@pytest.mark.parametrize("line", ["", "{", "[]", "5", "null", '"turns"', '{"turns": [1]}', '["turns"]'])
def test_what_is_no_object_is_no_record(line: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_record(line)


def test_what_is_absent_or_empty_is_nothing() -> None:
    record = parse_record(json.dumps({"turns": GOOD["turns"], "system": "", "labels": None, "responses": None}), "line 7")
    assert (record.id, record.system, record.lang, record.labels, record.responses) == ("line 7", None, None, {}, ())
