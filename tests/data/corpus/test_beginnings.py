from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.beginnings import END, beginnings, outline

_PATTERNS = [
    "(?:skip|jump) to (?:the )?menu.{0,9}", r"(?:\d{1,3}[\s|,.]+){2,}\d{0,3}", r"(?:«|<|\s)*(?:prev|next)(?:»|\s)*", "(?:页|章)?[:：][^。]{2,5}",
    r"\w\b[a-f]?", "(?:ab?)*?c", "(a|b|)(c*)\\1", "(?=b)[a-c]", "(?!b)[a-c]d", "(?i:A)b", "x{0}y", "[^a]b", "(?>a|ab)c", "(?:a?b?)*", "a+?b{2,}", "|c",
]  # fmt: skip


@settings(max_examples=50)
@given(st.data(), st.sampled_from(_PATTERNS), st.integers(0, 6), st.integers(1, 300))
def test_whatever_matches_begins_so(data: st.DataObject, pattern: str, size: int, room: int) -> None:
    text = data.draw(st.from_regex(re.compile(pattern), fullmatch=True).filter(lambda text: "\n" not in text))
    begins = beginnings(pattern, size, room)
    assert any((outline(text[:size]) + END).startswith(beginning) for beginning in begins)
    assert max(map(len, begins)) <= max(size, 1)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?:the )?cat", {"the", "cat"}), ("ad|ads", {"ad\n", "ads"}), (r"\d\s?x", {"0 x", "0x\n"}), ("[ab]+", {"a\n", "b\n", *(a + b + c for a in "ab" for b in "ab" for c in "ab\n")}),
        ("a.", {"a"}), ("[^a]", {""}), ("(?i)a", {""}), ("(?=a)a(?<!b)", {"a\n"}), (r"^a\b$", {"a\n"}), ("[a-~]b", {chr(code) + "b\n" for code in range(97, 127)}), ("[一-龥]", {""}),
    ],
)  # fmt: skip
def test_beginnings(pattern: str, expected: set[str]) -> None:
    assert set(beginnings(pattern, 3, 1000)) == expected


def test_as_many_as_there_is_room_for() -> None:
    assert set(beginnings("[ab][cd][ef]", 3, 4)) == {"ac", "ad", "bc", "bd"}
    assert beginnings("[ab]c", 3, 1) == [""]
