"""Texts as Arrow has them in memory: their UTF-8 is read as the str is, and what is none is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data import kernels
from data.character_tables import character_classes, normal_forms
from data.corpus.learned.char_model import CharModel
from data.corpus.quality import _stop_words, _traits
from tests.data.kernels.texts import texts

FORMS, CLASSES, TERMS = normal_forms(), character_classes(), kernels.build_terms(["the", "天", "naïve", "i"])
_TABLES = CharModel.train("the naïve cat sat on the mat, 天气很好 and so on", 3)._tables
_READERS: dict[str, Callable[[Any], Any]] = {
    "normalise": lambda text: kernels.normalise(text, FORMS),
    "fold": lambda text: kernels.fold(text, FORMS),
    "scan_words": lambda text: kernels.scan_words(text, CLASSES),
    "shingles": lambda text: kernels.shingles(text, FORMS, CLASSES, 3, 4),
    "quality_counts": lambda text: kernels.quality_counts([text, "", text], 20, _traits(), *_stop_words()),
    "symbols": lambda text: kernels.symbols(text, FORMS, True),
    "char_model_bits": lambda text: kernels.char_model_bits(text, 20, FORMS, False, 1e-6, _TABLES),
    "find_terms": lambda text: kernels.find_terms(text, *TERMS, True),
    "find_folded_terms": lambda text: kernels.find_folded_terms(text, FORMS, *TERMS),
    "number_places": kernels.number_places,
}


def _lines(text: Any) -> tuple[Any, int, int, int]:
    return kernels.cut_lines(text, TERMS, TERMS, lambda line, marks: marks == 0, 0, False)


@given(texts, st.text("aé天😀", max_size=40))
@example("a" * 31 + "é" + "b" * 17, "")
@example("天" * 21, "A" * 16 + "  " + "B" * 16)
def test_utf8_is_read_as_the_str_is(text: str, more: str) -> None:
    text = (text + more).encode("utf-8", "ignore").decode()  # no surrogate can be in UTF-8
    utf8 = memoryview(text.encode())
    for name, read in _READERS.items():
        assert read(utf8) == read(text), name
    kept, *counts = _lines(text)
    view, *others = _lines(utf8)
    assert bytes(view).decode() == kept and others == counts


@given(texts, st.integers(0, 300), st.binary(max_size=3))
@example("", 0, b"\xed\xa0\x80")  # a surrogate
@example("", 0, b"\xe0\x9f\xbf")  # longer than needed
@example("", 0, b"\xf4\x90\x80")  # beyond U+10FFFF, and cut off
@example("a" * 20, 20, b"\xf0\x9f\x98")
def test_what_is_no_utf8_is_refused(text: str, at: int, wrong: bytes) -> None:
    utf8 = text.encode("utf-8", "ignore")
    given_bytes = utf8[:at] + wrong + utf8[at:]
    try:
        expected = given_bytes.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(ValueError, match=f"no UTF-8 from byte {error.start} on"):
            kernels.scan_words(given_bytes, CLASSES)
    else:
        assert kernels.scan_words(given_bytes, CLASSES) == kernels.scan_words(expected, CLASSES)


def test_forms_of_ascii_that_are_not_its_small_letters() -> None:
    """Blocks of ASCII are folded together, unless the table says otherwise."""
    table = np.arange(0x110000, dtype=np.uint32)
    table[ord("b")] = ord("x")
    assert kernels.fold("Abba " * 20, (table, np.zeros(0, np.uint32))) == " ".join(["Axxa"] * 20)
    assert kernels.normalise(b"Abba " * 20, (table, np.zeros(0, np.uint32))) == "Axxa " * 20
