"""Thoughts are no part of what is said."""

from __future__ import annotations

import pytest

from data.instructions.teacher import completion_from
from data.instructions.thoughts import without_thoughts


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("<think>\n9. Instruction: a draft\n</think>\n\n9. Instruction: X", "9. Instruction: X"),
        (" <thinking>hm</thinking> yes", "yes"),
        ("the template began them\n</think>\n是。", "是。"),
        ("<think>a</think>\n<think>b</think>c", "c"),
        ("<think>cut off before the", ""),
        ("<think></think>", ""),
        ("Write <think> before and </think> behind.", "Write <think> before and </think> behind."),
        ("none at all ", "none at all "),
        ("", ""),
    ],
)
def test_without_thoughts(said: str, expected: str) -> None:
    assert without_thoughts(said) == expected
    assert without_thoughts(expected) == expected
    assert completion_from({"text": said}).text == expected
