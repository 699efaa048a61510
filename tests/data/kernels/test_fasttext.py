"""Held to fastText's own predict, number for number; its files are hostile here as well."""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path

import fasttext
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data import kernels
from data.corpus.language import bundled_model
from data.corpus.learned.fasttext_model import FastTextModel
from tests.data.corpus.helpers import SAMPLES
from tests.data.kernels.fasttext_files import (
    HIERARCHICAL_SOFTMAX,
    NEGATIVE_SAMPLING,
    ONE_VS_ALL,
    SOFTMAX,
    WORDS,
    Shape,
    model_file,
)
from tests.data.kernels.texts import texts

PRUNED = (1, 2, 3, 5, 8, 13, 21, 34)
SHAPES = {
    "dense": Shape(),
    "words alone": Shape(longest=0, shortest=0, buckets=0),
    "n-grams of words": Shape(word_ngrams=3, longest=0, loss=ONE_VS_ALL),
    "tree": Shape(loss=HIERARCHICAL_SOFTMAX, labels=9, word_ngrams=2, shortest=1),
    "one label": Shape(loss=HIERARCHICAL_SOFTMAX, labels=1),
    "negative sampling": Shape(loss=NEGATIVE_SAMPLING, columns=16),
    "quantised": Shape(loss=HIERARCHICAL_SOFTMAX, quantised=True, labels=7),
    "pruned": Shape(quantised=True, kept=PRUNED, word_ngrams=2, columns=8, width=2),
    "pruned to nothing": Shape(quantised=True, kept=()),
    "quantised on both sides": Shape(quantised=True, quantised_output=True, norms=False, columns=7, width=3, loss=SOFTMAX),
    "without an end of line": Shape(words=("the", "of")),
}
lines = st.lists(st.sampled_from([*WORDS, " ", " ", "b", "é", "__label__l1", "__label__", "\0", "\t", "\u00a0", "字"]), max_size=12).map("".join)


def _same(model: FastTextModel, oracle: fasttext.FastText._FastText, text: str, most: int, exact: bool) -> None:
    names, expected = oracle.predict(text, most)
    ((numbers,), (probabilities,)) = (found.tolist() for found in model.predict([text], most))
    found = [(model.labels[number], probability) for number, probability in zip(numbers, probabilities, strict=True) if number >= 0]
    if exact:
        assert found == list(zip(names, expected, strict=True))
        return
    # What is as likely may stand in another order.
    assert [probability for _, probability in found] == pytest.approx(list(expected), abs=1e-6)
    by_name = dict(zip(names, expected, strict=True))
    assert all(probability == pytest.approx(by_name.get(name, expected[-1]), abs=1e-6) for name, probability in found)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_kind_of_model(shape: Shape, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(model_file(shape))
    model, oracle = FastTextModel(tmp_path / "model.bin"), fasttext.load_model(str(tmp_path / "model.bin"))

    @given(lines, st.integers(1, shape.labels))
    @example("", 1)
    def check(text: str, most: int) -> None:
        _same(model, oracle, text, most, exact=False)

    check()


def test_the_bundled_model_to_the_last_bit() -> None:
    model, oracle = FastTextModel(bundled_model()), fasttext.load_model(str(bundled_model()))
    prose = [line for lang in ("en", "zh") for line in (SAMPLES / "trusted" / f"{lang}.txt").read_text(encoding="utf-8").split("\n")]
    for line in prose[::7]:
        _same(model, oracle, line, 8, exact=True)

    @given(texts, st.sampled_from([1, 8, 176]))
    def check(text: str, most: int) -> None:
        _same(model, oracle, text.replace("\n", " ").encode("utf-8", "ignore").decode(), most, exact=True)

    check()


def test_a_batch_is_its_texts_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(model_file(SHAPES["pruned"]))
    model = FastTextModel(tmp_path / "model.bin")
    given_texts = ["the", "", "the of the naïve " * 50, "x"]
    numbers, probabilities = model.predict(given_texts, 99)
    assert numbers.shape == probabilities.shape == (4, 6) and (numbers.dtype, probabilities.dtype) == (np.int32, np.float32)
    for row, text in enumerate(given_texts):
        assert all(np.array_equal(one[row], alone[0]) for one, alone in zip((numbers, probabilities), model.predict([text], 99), strict=True))
    assert model.predict([], 3)[0].shape == (0, 3)
    assert np.array_equal(model.predict(["the\nof"], 3)[1], model.predict(["the"], 3)[1])


@pytest.mark.parametrize("name", ["tree", "pruned", "quantised on both sides", "n-grams of words"])
def test_a_file_that_ends_too_early(name: str) -> None:
    """Wherever it is cut: a model is whole or refused."""
    whole = model_file(SHAPES[name])
    kernels.fasttext_open(whole)
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=r"the file ends too early|it does not begin as one"):
            kernels.fasttext_open(whole[:end])


@pytest.mark.parametrize("name", ["tree", "pruned", "quantised on both sides"])
def test_a_hostile_file_is_refused_or_read_within_its_bounds(name: str) -> None:
    """Each of the numbers that say what the file holds replaced by others; what is still a model answers."""
    whole = model_file(SHAPES[name])
    numbers = [0, 1, -1, 2**31 - 1, -(2**31), 255]
    for at in range(len(whole) - 8):
        if name == "tree" or at < 400 or at % 7 == 0:
            number = struct.pack("<i", numbers[at % len(numbers)])
            try:
                model = kernels.fasttext_open(whole[:at] + number + whole[at + 4 :])
            except ValueError:
                continue
            kernels.fasttext_predict(model, ["the of 天 naïve abcdefgh", ""], 1)


@pytest.mark.parametrize(
    ("offset", "number", "message"),
    [
        (4, 13, "it does not begin as one"),
        (8, 0, "its sizes are none of a model"),
        (32, 5, "its loss is none that fastText 0.9 knows"),
        (36, 1, "it has vectors of words and no labels"),
        (40, 0, "its sizes are none of a model"),
        (40, 41, "its words have more vectors than there are"),
        (64, 1 << 30, "the file ends too early"),
        (68, 5, "its dictionary is none"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(offset: int, number: int, message: str, tmp_path: Path) -> None:
    whole = model_file(Shape())
    (tmp_path / "odd.bin").write_bytes(whole[:offset] + struct.pack("<i", number) + whole[offset + 4 :])
    with pytest.raises(ValueError, match=rf"odd\.bin: not a fastText model: {message}"):
        FastTextModel(tmp_path / "odd.bin")


def test_no_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").write_bytes(b"")
    for name in ("empty.bin", "absent.bin"):
        with pytest.raises(ValueError, match=rf"{name}: not a fastText model"):
            FastTextModel(tmp_path / name)


def test_numbers_that_are_none_are_no_answers() -> None:
    shape = Shape(loss=HIERARCHICAL_SOFTMAX, labels=9)
    whole = bytearray(model_file(shape))
    whole[-4 * 9 * shape.columns :] = struct.pack("<f", math.nan) * 9 * shape.columns
    numbers, _ = kernels.fasttext_predict(kernels.fasttext_open(bytes(whole)), ["the"], 3)
    assert np.frombuffer(numbers, np.int32).tolist() == [-1, -1, -1]
    assert len(kernels.fasttext_labels(kernels.fasttext_open(model_file(dataclasses.replace(shape, labels=40))))) == 40
