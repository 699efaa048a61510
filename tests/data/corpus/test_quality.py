from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.quality import QUALITY_LABELS, measure, quality_labels, repetition
from data.settings import QualitySettings
from data.text import scan_words, words
from tests.data.corpus.helpers import documents


def datatrove_duplicates(tokens: Sequence[str], size: int) -> int:
    """The reference: datatrove's find_all_duplicate, from its description; characters of repeated n-grams."""
    seen: set[tuple[str, ...]] = set()
    at = characters = 0
    while at <= len(tokens) - size:
        gram = tuple(tokens[at : at + size])
        if gram in seen:
            characters += sum(map(len, gram))
            at += size
        else:
            seen.add(gram)
            at += 1
    return characters


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=60))
def test_repetition_is_the_slow_way_made_fast(tokens: list[str]) -> None:
    text = " ".join(tokens)
    found = scan_words(text)
    measured = repetition(found.hashes, found.ends - found.starts)
    total = sum(map(len, tokens))
    for size in (5, 6, 7, 8, 9, 10):
        assert measured[f"duplicate_{size}gram_characters_share"] == pytest.approx(datatrove_duplicates(tokens, size) / total)
    for size in (2, 3, 4):
        grams = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
        most = max(map(grams.count, grams), default=1)
        expected = max((grams.count(g) * sum(map(len, g)) for g in grams if grams.count(g) == most), default=0) if most > 1 else 0
        assert measured[f"top_{size}gram_characters_share"] == pytest.approx(expected / total)


def test_gopher_by_hand() -> None:
    found = measure("The cat and the dog... # have been\n- to\n• the park. 42")
    assert found["words"] == 11
    assert found["stop_words"] == 4  # the, and, have, to
    assert found["hashes_per_word"] == pytest.approx(1 / 11)
    assert found["ellipses_per_word"] == pytest.approx(1 / 11)
    assert found["bullet_lines_share"] == pytest.approx(2 / 3)
    # tokens: The cat and the dog... # have been - to • the park. 42
    assert found["alphabetic_words_share"] == pytest.approx(10 / 14)
    assert found["word_characters_mean"] == pytest.approx(41 / 14)


def test_lines_by_hand() -> None:
    found = measure("A line that is certainly longer than thirty.\nshort\nshort\nends...\n\nshort")
    assert found["duplicate_lines_share"] == pytest.approx(2 / 5)
    assert found["duplicate_lines_characters_share"] == pytest.approx(10 / 66)
    assert found["duplicate_paragraphs_share"] == 0
    assert found["ellipsis_lines_share"] == pytest.approx(1 / 5)
    assert found["punctuated_lines_share"] == pytest.approx(2 / 5)
    assert found["short_lines_share"] == pytest.approx(4 / 5)
    assert found["sentences"] == 5


def test_chinese_prose_measures_like_prose() -> None:
    text = "今天的天气很好，我们都去公园里散步。孩子们在湖边放风筝，老人坐在树下喝茶聊天。\n晚上回家的时候，街上的灯已经亮了，空气里有桂花的香味。"
    found = measure(text)
    assert found["unspaced_words_share"] == 1
    assert found["stop_words"] >= 5
    assert found["sentences"] == 3
    assert found["alphabetic_words_share"] > 0.85
    assert found["punctuated_lines_share"] == 1
    assert found["duplicate_5gram_characters_share"] == 0
    assert measure("好价格好价格好价格" * 20)["duplicate_5gram_characters_share"] > 0.5


def test_broken_text_shows() -> None:
    assert measure("你好，世界。".encode().decode("latin-1") * 5)["unreadable_characters_share"] > 0.3
    assert measure("some \ufffd\ufffd text")["unreadable_characters_share"] > 0.1
    assert measure("naïve café, señor — “quoted” Übung £5")["unreadable_characters_share"] == 0


def test_a_tables_bars_are_no_words() -> None:
    assert measure("| one | two |\n| three | four |")["alphabetic_words_share"] == 1


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_measured(text: str) -> None:
    found = measure(text)
    assert set(found) == set(QUALITY_LABELS.names) - {"id"}
    assert all(np.isfinite(value) for value in found.values())
    assert all(0 <= value <= 1 for name, value in found.items() if name.endswith("_share"))
    assert found["words"] == len(words(text))


def test_labels_stand_beside_their_documents() -> None:
    table = documents("one two", "", "三四")
    labels = quality_labels(table, QualitySettings())
    assert labels.schema.equals(QUALITY_LABELS)
    assert labels["id"].to_pylist() == table["id"].to_pylist()
    assert labels["words"].to_pylist() == [2, 0, 2]


def test_a_tables_rows_are_no_lines_of_prose() -> None:
    found = measure("A sentence that ends as it should end.\n| a | b |\n| c | d |")
    assert found["punctuated_lines_share"] == 1
    assert found["short_lines_share"] == 0
    assert measure("| a | b |")["punctuated_lines_share"] == 0
