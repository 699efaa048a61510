from __future__ import annotations

import random
import re
from importlib import resources

import pytest

from data.corpus.line_patterns import LinePatterns
from tests.data.corpus.helpers import SAMPLES

_LIST = (resources.files("data.corpus") / "lists" / "boilerplate_lines.txt").read_text(encoding="utf-8")
_ENTRIES = [line for line in _LIST.splitlines() if line and not line.startswith("#")]


def test_decides_as_one_alternation_of_all() -> None:
    """The bundled patterns, on the trusted texts' lines, on what their own words and signs may be put together to, and on both."""
    slow = re.compile("|".join(f"(?:{entry.rpartition(chr(9))[2]})" for entry in _ENTRIES))
    fast = LinePatterns(_ENTRIES)
    random_ = random.Random(1)
    pieces = [piece for piece in re.split(r"[()|?*+\\\[\]{}:^$\d]+", _LIST.lower()) if piece.strip(" .,")]
    prose = [line for lang in ("en", "zh") for line in (SAMPLES / "trusted" / f"{lang}.txt").read_text(encoding="utf-8").lower().split("\n") if line]
    lines = prose[:300]
    for _ in range(6000):
        parts = random_.choices(pieces, k=random_.randint(1, 4)) + [random_.choice(prose)[:20]] * (random_.random() < 0.2)
        lines.append(random_.choice(("", " ", " | ")).join(parts)[:200].strip() or "x")
    decided = [fast.fullmatch(line) for line in lines]
    assert decided == [slow.fullmatch(line) is not None for line in lines]
    assert 200 < sum(decided) < len(lines) / 2


def test_patterns_that_may_begin_with_anything() -> None:
    patterns = LinePatterns(["skip.*", "cookie|biscuit\t.{0,9}(?:cookie|biscuit)s"])
    assert [patterns.fullmatch(line) for line in ("skip", "our cookies", "biscuits", "cookie jar", "skim", "")] == [True, True, True, False, False, False]
    assert not LinePatterns([]).fullmatch("anything")


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line patterns: \(: missing \)"):
        LinePatterns(["a", "("])
    with pytest.raises(ValueError, match=r"line patterns: \.\*a may begin with anything: write the words"):
        LinePatterns(["a", ".*a"])
