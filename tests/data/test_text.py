from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import (
    clean_text,
    count_sentences,
    count_words,
    ngram_hashes,
    normalise,
    scan_words,
    sentences,
    shingles,
    unspaced_share,
    words,
)


def test_words_of_many_scripts() -> None:
    assert words("Hello, wörld's 你好2020年 カタ 한국어 नमस्ते") == [
        "Hello", "wörld", "s", "你", "好", "2020", "年", "カ", "タ", "한국어", "नमस्ते",
    ]  # fmt: skip


def test_sentences_keep_their_marks() -> None:
    assert sentences('He said "Go." Then left. 你好。“很好！”对吗？ok\nnew') == [
        'He said "Go."', "Then left.", "你好。", "“很好！”", "对吗？", "ok", "new",
    ]  # fmt: skip


def test_clean_text_removes_what_cannot_be_stored() -> None:
    assert clean_text("a\0b\r\nc\rd\ud800e\ufefff\tg") == "ab\nc\ndef\tg"


def test_normalise_keeps_marks_and_digits() -> None:
    assert normalise("ＡＢＣ１２３ がく") == "abc123 がく"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_word_hashes_the_same_wherever_it_stands(text: str) -> None:
    found = scan_words(text)
    for word, value in zip(words(text), found.hashes.tolist(), strict=True):
        assert scan_words(f"!! {word}").hashes[0] == value


@settings(deadline=None)
@given(st.text(alphabet="ab。.!? \n\"”x", max_size=60))
def test_count_sentences_counts_sentences(text: str) -> None:
    assert count_sentences(text) == len(sentences(text))


@settings(deadline=None)
@given(st.text(max_size=100))
def test_count_words_counts_words(text: str) -> None:
    assert count_words(text) == len(words(text)) == len(scan_words(text))


def test_different_words_differ() -> None:
    vocabulary = [f"{a}{b}{n}" for a in "abcdefgh" for b in "xyz" for n in range(1000)]
    assert len(set(scan_words(" ".join(vocabulary)).hashes.tolist())) == len(vocabulary)


def test_blocks_do_not_change_short_hashes() -> None:
    text = "word " * 300_000  # over a million characters
    found = scan_words(text)
    assert len(set(found.hashes.tolist())) <= 3  # one word cut in two at the border at most
    assert text[found.starts[-1] : found.ends[-1]] == "word"


def test_ngrams_by_hand() -> None:
    values = np.array([1, 2, 3, 1, 2], dtype=np.uint64)
    grams = ngram_hashes(values, 2)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len(set(grams.tolist())) == 3
    assert len(ngram_hashes(values, 6)) == 0


def test_short_texts_have_one_shingle_of_their_own() -> None:
    singles = [shingles(text) for text in ("one", "two", "one two", "你好", "!!", "??")]
    assert all(len(found) == 1 for found in singles)
    assert len({int(found[0]) for found in singles}) == 6
    assert shingles("Hello  WORLD!")[0] == shingles("hello world")[0]


def test_chinese_is_cut_into_characters() -> None:
    assert len(shingles("天气很好我们去公园", characters=5)) == 5
    assert len(shingles("we go to the park today", words=5)) == 2
    assert unspaced_share("天气很好 ok") == 0.8


def test_words_of_nothing() -> None:
    assert len(scan_words("")) == 0
