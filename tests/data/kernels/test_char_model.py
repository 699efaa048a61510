from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.corpus.learned.char_model import CHARACTERS, CharModel, characters
from data.text import normalise
from tests.data.kernels.test_words import mix
from tests.data.kernels.texts import texts

_ADDRESS = re.compile(r"[a-z0-9._%+/:?=&#~-]*(?:@|://|www\.)[a-z0-9._%+/:?=&#~-]*")
_TRUSTED = "the cat sat on the mat. it saw 12 birds at www.nest.example, and the birds saw the cat; they sat on"


def read(text: str, unspaced: bool) -> str:
    """What a model reads, by regular expressions one after the other."""
    folded = re.sub(r"\d[\d.,:/-]*", "0", _ADDRESS.sub("@", " ".join(normalise(text).split())))
    return re.sub(r"[a-z][a-z0-9._'-]*", "a", folded) if unspaced else folded


addresses = st.lists(st.sampled_from([*"ab@:/w. 01,-_%'", "www.", "://", "天"]), max_size=30).map("".join)


@given(texts | addresses, st.booleans())
@example("a@b@c www.x www. ://x@ w://", False)
@example("1:2 12a3 x1.5 9", True)
def test_what_is_read(text: str, unspaced: bool) -> None:
    assert characters(text, unspaced).tolist() == [mix(ord(character) + 1) for character in read(text, unspaced)]


def _bits(trained: str, asked: str, order: int) -> float:
    """Interpolated Witten-Bell by its formula: p(c | h) = (count(hc) + T(h) p(c | h')) / (N(h) + T(h))."""
    counts = Counter(trained[at : at + size] for size in range(1, order + 1) for at in range(len(trained) - size + 1))
    followers: dict[str, set[str]] = {}
    seen: Counter[str] = Counter()
    for gram, count in counts.items():
        followers.setdefault(gram[:-1], set()).add(gram[-1])
        seen[gram[:-1]] += count

    def probability(character: str, context: str) -> float:
        lower = probability(character, context[1:]) if context else 1 / CHARACTERS
        if not seen[context]:
            return lower
        types = len(followers[context])
        return (counts[context + character] + types * lower) / (seen[context] + types)

    return -sum(math.log2(probability(character, asked[max(0, at - order + 1) : at])) for at, character in enumerate(asked)) / max(len(asked), 1)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_bits_by_the_formula(order: int) -> None:
    model = CharModel.train(_TRUSTED, order)

    @given(st.lists(st.sampled_from([*"the cat sz\n", "birds", "12", "天", "on the mat. it saw", "\ud800"]), max_size=20).map("".join))
    def check(text: str) -> None:
        assert model.bits(text) == pytest.approx(_bits(read(_TRUSTED, False), read(text, False), order), rel=1e-5)

    check()


def test_a_text_that_no_number_could_hold_the_probability_of(tmp_path: Path) -> None:
    CharModel.train(_TRUSTED, 3).save(tmp_path / "en.npz")
    model = CharModel.load(tmp_path / "en.npz")
    text = "xyz unheard of! " * 5000
    assert np.isfinite(model.bits(text)) and model.bits(text) == pytest.approx(model.bits("xyz unheard of! " * 500), rel=1e-3)
