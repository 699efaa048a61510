"""The pool decides exactly as a plain loop over rouge_score, while scoring few pairs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer

from data.instructions.novelty import Match, Pool, f1, least_lcs, tokens


class Characters:
    """rouge_score's interface around the project's tokens: its own finds none in Chinese."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


SCORER = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Characters())


def plain(texts: list[str], text: str, threshold: float) -> Match | None:
    """The loop of Self-Instruct: score against all, look at the highest."""
    scores = [SCORER.score(other, text)["rougeL"].fmeasure for other in texts]
    best = max(scores, default=0.0)
    return Match(scores.index(best), best) if best > threshold else None


def test_tokens_are_words_or_chinese_characters() -> None:
    assert tokens("Who's “Ann_B”? 42 cafés") == ["who", "s", "ann", "b", "42", "cafés"]
    assert tokens("翻译hello世界，3个") == ["翻", "译", "hello", "世", "界", "3", "个"]


@given(st.text(st.characters(max_codepoint=127)))
def test_on_ascii_they_are_rouge_scores_own(text: str) -> None:
    assert tokens(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_by_hand() -> None:
    # LCS of "name the river" and "name the old river" is 3: F1 = 2 * 3 / (3 + 4)
    pool = Pool(0.7)
    pool.add("Name the old river")
    match = pool.closest("name the river!")
    assert match is not None
    assert (match.index, match.score) == (0, pytest.approx(6 / 7))
    # order counts: "river the name" shares one word in order, F1 = 2 / 7
    assert pool.closest("river the name") is None


def test_a_score_at_the_threshold_is_still_novel() -> None:
    # F1 = 2 * 4 / 8 = 0.5 exactly
    for threshold, novel in ((0.5, True), (0.499, False)):
        pool = Pool(threshold)
        pool.add("a b c d e")
        assert (pool.closest("a b") is None) == (threshold >= 2 * 2 / 7)
        assert (pool.closest("a b c x y z w v q") is None) == (threshold >= 2 * 3 / 14)
        pool = Pool(threshold)
        pool.add("a b c d")
        assert (pool.closest("a b x y") is None) is novel


def test_chinese() -> None:
    pool = Pool(0.7)
    pool.add("请把下面的句子翻译成英文。")
    assert pool.closest("请把下面的句子翻译成法文") is not None
    assert pool.closest("写一首关于夏天的诗") is None


def test_without_tokens() -> None:
    pool = Pool(0.7)
    for text in ("", "?!", "a"):
        assert pool.closest(text) is None
        pool.add(text)
    assert len(pool) == 3
    assert pool.closest("?!") is None


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_the_least_lcs_is_the_least(m: int, n: int, threshold: float) -> None:
    passing = [lcs for lcs in range(min(m, n) + 1) if f1(lcs, m, n) > threshold]
    least = least_lcs(m, n, threshold)
    assert least == passing[0] if passing else least > min(m, n)


letters = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "河", "镇", "的"]), max_size=12).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(letters, max_size=12), letters, st.sampled_from([0.2, 0.5, 0.7, 0.9]))
def test_same_decision_score_and_entry_as_the_plain_loop(texts: list[str], text: str, threshold: float) -> None:
    pool = Pool(threshold)
    for other in texts:
        pool.add(other)
    assert pool.closest(text) == plain(texts, text, threshold)


def test_same_decisions_while_a_pool_grows() -> None:
    rng = random.Random(3)
    vocabulary = [f"w{int(rng.paretovariate(0.6))}" for _ in range(400)]
    pool, texts = Pool(0.7), list[str]()
    found = 0
    for _ in range(250):
        words = rng.choice(texts).split() if texts and rng.random() < 0.5 else rng.choices(vocabulary, k=rng.randint(3, 20))
        for _ in range(rng.randint(0, 5)):
            words[rng.randrange(len(words))] = rng.choice(vocabulary)
        text = " ".join(words)
        match = pool.closest(text)
        assert match == plain(texts, text, 0.7)
        found += match is not None
        pool.add(text)
        texts.append(text)
    assert 20 < found < 230
    assert pool.scored < 0.2 * 250 * 249 / 2  # the bounds let most pairs go unscored


def test_long_texts() -> None:
    rng = random.Random(4)
    first = [rng.choice("abcdefghij") for _ in range(1500)]
    second = [rng.choice("abcdefghij") if rng.random() < 0.2 else word for word in first]
    pool = Pool(0.7)
    pool.add(" ".join(first))
    assert pool.closest(" ".join(second)) == plain([" ".join(first)], " ".join(second), 0.7)
