from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.quality import QUALITY_LABELS, measure, measures, quality_labels
from data.settings import QualitySettings, SelectionSettings
from data.text import count_sentences, sentences, words
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


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=60))
def test_repetition_is_the_slow_way_made_fast(tokens: list[str]) -> None:
    measured = measure(" ".join(tokens))
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


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(alphabet="ab的。.! \"|…\n<{-", max_size=80), max_size=8))
def test_a_text_measures_the_same_in_any_company(texts: list[str]) -> None:
    together = measures(texts)
    for at, text in enumerate(texts):
        assert {name: column[at].item() for name, column in together.items()} == measure(text)
        assert together["sentences"][at] == count_sentences(text) == len(sentences(text))


def test_what_datatrove_drops_breaks_the_same_bound() -> None:
    """One text per rule of datatrove 0.10 (gopher_quality, gopher_repetition, c4, fineweb), with its value by hand."""
    prose = "The cat sat on the mat and it looked at the birds that have a nest in the old tree."
    hashes = measure("a # b # c the of")
    assert hashes["hashes_per_word"] == pytest.approx(2 / 5)
    assert measure("one... two… three")["ellipses_per_word"] == pytest.approx(2 / 3)
    assert measure("• one\n- two\nthree")["bullet_lines_share"] == pytest.approx(2 / 3)
    assert measure("goes on...\nand on…\nends.")["ellipsis_lines_share"] == pytest.approx(2 / 3)
    assert measure("one 22 333 four")["alphabetic_words_share"] == pytest.approx(2 / 4)
    assert measure("cat dog bird")["stop_words"] == 0
    assert measure(prose)["stop_words"] == 4  # the, and, that, have
    repeated = measure("aa\naa\nbbbb")
    assert repeated["duplicate_lines_share"] == pytest.approx(1 / 3)
    assert repeated["duplicate_lines_characters_share"] == pytest.approx(2 / 8)
    assert measure("aa bb\n\ncc\n\naa bb")["duplicate_paragraphs_share"] == pytest.approx(1 / 3)
    # words aa bb aa bb cc: the 2-gram "aa bb" stands twice, 8 of 10 characters
    assert measure("aa bb aa bb cc")["top_2gram_characters_share"] == pytest.approx(8 / 10)
    assert measure("a b c d e x a b c d e")["duplicate_5gram_characters_share"] == pytest.approx(5 / 11)
    assert measure("Ends.\nDoes not")["punctuated_lines_share"] == pytest.approx(1 / 2)
    assert measure("x" * 30 + "\n" + "y" * 31)["short_lines_share"] == pytest.approx(1 / 2)
    assert measure("one\ntwo\nthree four")["newlines_per_word"] == pytest.approx(2 / 4)
    assert measure("Lorem Ipsum dolor {x}")["lorem_ipsums"] == measure("Lorem Ipsum dolor {x}")["curly_brackets"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "静夜思\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n登鹳雀楼\n白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。\n春晓\n"
        "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n竹里馆\n独坐幽篁里，弹琴复长啸。\n深林人不知，明月来相照。",
        "初步核算，全年国内生产总值1349084亿元，按不变价格计算，比上年增长5.0%。分产业看，第一产业增加值91414亿元，比上年增长3.5%；第二产业增加值"
        "492087亿元，增长5.3%；第三产业增加值765583亿元，增长5.0%。这是今天公布的数字。",
    ],
)
def test_chinese_verse_and_figures_are_kept(text: str) -> None:
    """By every rule over these measures; thirty characters of English are six words, five of Chinese with their marks a verse."""
    found = measure(text)
    for rule in SelectionSettings().rules:
        if rule.label in found and (rule.languages is None or "zh" in rule.languages) and not rule.is_robust:
            assert (rule.min is None or found[rule.label] >= rule.min) and (rule.max is None or found[rule.label] <= rule.max), rule.reason


def test_function_words_count_in_both_scripts() -> None:
    assert measure("这些学生说来，无疑会为研究与发展开辟道路。")["stop_words"] == measure("這些學生說來，無疑會為研究與發展開闢道路。")["stop_words"] == 4


def test_no_english_rule_reaches_chinese() -> None:
    """Characters stand for words, Chinese marks end sentences and lines, Chinese function words count."""
    found = measure("我们在公园里散步。\n他们也来了！\n天气很好")
    assert found["words"] == 17
    assert found["word_characters_mean"] == 1
    assert found["sentences"] == 3
    assert found["punctuated_lines_share"] == pytest.approx(2 / 3)
    assert found["short_lines_share"] == pytest.approx(1 / 3)  # 15 characters, where English has 30; what ends a clause is verse or talk
    assert measure("首页\n新闻中心\n关于我们。")["short_lines_share"] == pytest.approx(2 / 3)
    # 2-grams are of four characters: 天气很好 twice is all of the text
    assert measure("天气很好天气很好")["top_2gram_characters_share"] == 1
