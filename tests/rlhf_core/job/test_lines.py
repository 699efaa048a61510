"""What a kill leaves of a file of JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_core.job.lines import whole_lines


@pytest.mark.parametrize(
    ("text", "group", "kept"),
    [("", 1, 0), ('{"a": 1}\n{"a": 2}\n', 1, 2), ('{"a": 1}\n{"a"', 1, 1), ('{"a"', 1, 0), ('{"a": 1}\n' * 7 + '{"a', 3, 6), ('{"a": "\u2028"}\n', 1, 1)],
)
def test_only_whole_lines_and_whole_groups_stay(tmp_path: Path, text: str, group: int, kept: int) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(text, encoding="utf-8")
    assert len(whole_lines(file, group)) == kept
    assert file.read_text(encoding="utf-8") == "".join(text.split("\n")[i] + "\n" for i in range(kept))
    assert whole_lines(tmp_path / "none.jsonl") == []
