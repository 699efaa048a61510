from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import given

from data import kernels
from data.character_tables import UNSPACED, Forms, character_classes, normal_forms
from data.corpus.sensitive import _simplified, fold
from data.text import normalise, scan_words, shingles
from tests.data.kernels.texts import SPACES, class_of, texts, words_of

PLAIN = Forms(np.arange(0x110000, dtype=np.uint32), np.zeros(0, np.uint32))  # every character is its form
_M = 0x9E3779B97F4A7C15
_64 = (1 << 64) - 1


def mix(value: int) -> int:
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _64
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _64
    return value ^ value >> 31


def hash_of(values: list[int]) -> int:
    """Of a word's or a text's parts: mix of the sum of (value + 1) * M^place."""
    return mix(sum((value + 1) * pow(_M, place, 1 << 64) for place, value in enumerate(values)) & _64)


def run_of(hashes: list[int]) -> int:
    """Of neighbouring words: mix of the polynomial whose last member is taken as it is."""
    total = 0
    for value in hashes:
        total = (total * _M + value) & _64
    return mix(total)


@given(texts)
def test_words_shingles_and_hashes(text: str) -> None:
    found, places = scan_words(text), words_of(text)
    assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == places
    hashes = [hash_of([ord(character) for character in text[start:end]]) for start, end in places]
    assert found.hashes.tolist() == hashes
    assert found.unspaced.tolist() == [class_of(text[start]) == UNSPACED for start, _ in places]
    pieces = "".join("\n" if character in SPACES else character for character in text).split("\n")
    assert kernels.shingles(text, PLAIN, character_classes(), 5, 5)[0] == hash_of([hash_of(list(map(ord, piece))) for piece in pieces if piece])


@given(texts)
def test_shingles(text: str) -> None:
    normal = normalise(text)
    places = words_of(normal)
    hashes = [hash_of([ord(character) for character in normal[start:end]]) for start, end in places]
    unspaced = sum(class_of(normal[start]) == UNSPACED for start, _ in places) * 2 > len(places)
    size = 4 if unspaced else 3
    if len(hashes) >= size:
        expected = [run_of(hashes[at : at + size]) for at in range(len(hashes) - size + 1)]
    elif hashes:
        expected = [(run_of(hashes) + len(hashes)) & _64]
    else:
        expected = [hash_of(list(map(ord, normal.strip() or "\0")))]
    assert shingles(text, 3, 4).tolist() == expected


@given(texts)
def test_forms(text: str) -> None:
    assert normalise(text) == unicodedata.normalize("NFKC", text).lower()
    folded = kernels.fold(text, normal_forms())
    assert folded is None or folded == " ".join(filter(None, normalise(text).split(" ")))
    seen = "".join(character for character in text if character not in "\u00ad\ufeff" and not 0x200B <= ord(character) <= 0x200F and not 0x2060 <= ord(character) <= 0x2064)
    assert fold(text) == " ".join(normalise(seen).translate(_simplified()).split())


def test_every_character_has_the_form_that_unicodedata_gives_it() -> None:
    """At the end of a word, where a sigma is another one, and behind what it might join."""
    for start in range(0, 0x31000, 64):
        for before, after in (("a", " "), ("\u1100", "e")):
            text = "".join(f"{before}{chr(code)}{after}" for code in range(start, start + 64))
            if normalise(text) != unicodedata.normalize("NFKC", text).lower():
                raise AssertionError(hex(start))
    lone = [normalise(f"a{chr(code)}") for code in range(0x11000)]
    assert lone == [unicodedata.normalize("NFKC", f"a{chr(code)}").lower() for code in range(0x11000)]


def test_minima() -> None:
    random = np.random.default_rng(1)
    for functions in (1, 15, 16, 112):
        a, b = random.integers(0, 1 << 32, (2, functions), dtype=np.uint32)
        for size in (1, 2, 700):
            hashes = random.integers(0, 1 << 64, size, dtype=np.uint64)
            values = (hashes >> np.uint64(32)).astype(np.uint32)
            expected = (a[:, None] * values + b[:, None]).min(axis=1)
            assert np.array_equal(np.frombuffer(kernels.minhash(hashes, a, b), np.uint32), expected)


def test_a_long_line() -> None:
    text = "word 天" * 200_000
    found = scan_words(text)
    assert len(found) == 400_000 and len(set(found.hashes.tolist())) == 2
