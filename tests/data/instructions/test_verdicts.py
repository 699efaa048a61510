"""Verdicts as judges write them."""

from __future__ import annotations

import pytest

from data.instructions.verdicts import read_verdict


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A", "A"), ("[[B]]", "B"), ("**B**.", "B"), ("Both are fine.\nTie", "TIE"), ("平局。", "TIE"), ("A\nBecause B lacks a reason.", "A"),
        ("Answer B is a better one.", "B"), ("结论：A", "A"), ("<think>A or B? B</think>\nA", "A"), ("「平手」", "TIE"), ("tie.", "TIE"),
        ("A is short. B has reasons.\n\n**Verdict: B**", "B"), ("A 更短，B 更全。\n结论：[[A]]。", "A"), ("A or B?\nOverall, a tie.", "TIE"),
        ("Both A and B.\nA is worse.", None), ("hm\n</think>\nB", "B"), ("A is better than B.", None), ("", None), ("...", None), ("I cannot say.", None), ("<think>A", None), ("ABBA", None), ("TIER", None),
    ],
)  # fmt: skip
def test_verdicts_as_judges_write_them(said: str, expected: str | None) -> None:
    assert read_verdict(said) == expected
