"""What the kernels are given comes from this project's own code; what is wrong with it is an error all the same, and no crash."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from data import kernels
from data.character_tables import character_classes, normal_forms
from data.corpus.quality import _stop_words, _traits
from tests.data.kernels.fasttext_files import Shape, model_file

CLASSES = character_classes()
FORMS = normal_forms()
HASHES = np.ones(4, np.uint64)
PAIRS = np.ones(16, np.uint32)
MODEL = kernels.fasttext_open(model_file(Shape()))
TERMS = kernels.build_terms(["a"])
SLOTS = np.zeros(16, np.dtype([("key", "u8"), ("probability", "f4"), ("weight", "f4")]))


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("scan_words", (5, CLASSES), TypeError),
        ("scan_words", (b"\xff", CLASSES), ValueError),
        ("scan_words", ("text", b""), ValueError),
        ("scan_words", ("text", CLASSES[::2]), ValueError),
        ("shingles", ("text", FORMS, CLASSES, 0, 5), ValueError),
        ("shingles", ("text", FORMS, None, 5, 5), TypeError),
        ("shingles", ("text", None, CLASSES, 5, 5), TypeError),
        ("minhash", (HASHES[:0], PAIRS, PAIRS), ValueError),
        ("minhash", (HASHES, PAIRS, PAIRS[:3]), ValueError),
        ("minhash", (HASHES.astype(np.uint32), PAIRS, PAIRS), ValueError),
        ("minhash", (memoryview(b"0" * 17)[1:], PAIRS, PAIRS), ValueError),
        ("fold", ("é", (np.full(300, 0x110007, np.uint32), PAIRS[:2])), ValueError),
        ("fold", ("é", (np.full(300, 0x110000, np.uint32), np.array([9, 1], np.uint32))), ValueError),
        ("normalise", ("é", (np.full(300, 0x110007, np.uint32), PAIRS[:2])), ValueError),
        ("normalise", (None, FORMS), TypeError),
        ("quality_counts", (["a"], 10, _traits()[:9], *_stop_words()), ValueError),
        ("quality_counts", (["a"], -1, _traits(), *_stop_words()), ValueError),
        ("quality_counts", (["a", None], 10, _traits(), *_stop_words()), TypeError),
        ("quality_counts", (7, 10, _traits(), *_stop_words()), TypeError),
        ("quality_counts", (["a"], 10, _traits(), _stop_words()[0], b"\0"), ValueError),
        ("char_model_bits", ("a", 9, FORMS, False, 0.1, []), ValueError),
        ("char_model_bits", ("a", 9, FORMS, False, 0.1, [SLOTS] * 65), ValueError),
        ("char_model_bits", ("a", 9, FORMS, False, 0.1, [SLOTS[:3]]), ValueError),
        ("char_model_bits", ("a", 9, FORMS, False, 0.1, [SLOTS, None]), TypeError),
        ("build_terms", (["a", ""],), ValueError),
        ("build_terms", (["a", 5],), ValueError),
        ("build_terms", (5,), TypeError),
        ("find_terms", ("a", b"", b"", True), ValueError),
        ("find_terms", ("a", bytes(1 << 16), np.zeros(48, np.uint64), True), ValueError),
        ("find_folded_terms", ("a", FORMS, b"", b""), ValueError),
        ("find_folded_terms", ("a", (), *TERMS), TypeError),
        ("longest_texts", (b"<p>", -1, 0, 0, 1), ValueError),
        ("longest_texts", ("text", 1, 1, 1, 1), TypeError),
        ("cut_lines", (7, TERMS, TERMS, max, 0, False), TypeError),
        ("cut_lines", ("line", TERMS[::-1], TERMS, max, 0, False), ValueError),
        ("cut_lines", ("line", TERMS, (TERMS[0], np.zeros(48, np.uint64)), max, 0, False), ValueError),
        ("cut_lines", ("line", TERMS, TERMS[:1], max, 0, False), TypeError),
        ("number_places", (None,), TypeError),
        ("symbols", (3, FORMS, False), TypeError),
        ("fasttext_open", ("text",), TypeError),
        ("fasttext_labels", (None,), ValueError),
        ("fasttext_predict", (MODEL, ["a"], 0), ValueError),
        ("fasttext_predict", (MODEL, ["a"], 7), ValueError),
        ("fasttext_predict", (MODEL, ["a", b"b"], 1), TypeError),
        ("fasttext_predict", (MODEL, ["\ud800"], 1), UnicodeEncodeError),
        ("fasttext_predict", (MODEL, None, 1), TypeError),
    ],
)  # fmt: skip
def test_wrong_arguments(function: str, arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        getattr(kernels, function)(*arguments)


def test_full_tables_do_not_hang() -> None:
    """A table without a free slot ends a search as a table of no n-grams and no terms would."""
    full = SLOTS.copy()
    full["key"] = np.arange(1, 17)
    assert kernels.char_model_bits("text", 9, FORMS, False, 0.5, [full, full]) == (4.0, 4)
    assert kernels.fold("", FORMS) == ""


def test_without_the_extension_the_way_out_is_named() -> None:
    code = "import sys; sys.modules['data.kernels._compiled'] = None\nimport data.kernels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: data.kernels is not built" in done.stderr and "`pip install -e .`" in done.stderr
