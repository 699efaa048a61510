"""Figures of preferences, drift and held-out text by hand arithmetic."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from rlhf_core.dataset.records import Record, Turn
from rlhf_core.evaluation import drift
from rlhf_core.evaluation.answers import (
    Answer,
    describe_sampled,
    exact_matches,
    grouped_mean_figures,
    side_by_side,
)
from rlhf_core.evaluation.language_model import Scored, Text, summarise, windows
from rlhf_core.evaluation.preferences import Pair, calibration, length_correlation, score_pairs
from rlhf_core.evaluation.preferences import summarise as summarise_pairs
from rlhf_core.evaluation.scoring import score_answers
from rlhf_core.measures.statistics import mean_interval


def pair(gap: float, ranking: str = "1", margin: float = 1, lengths: tuple[int, int] = (2, 1)) -> Pair:
    return Pair(ranking, "s", "en", margin, gap, 0.0, *lengths)


def test_reward_model_figures_by_hand() -> None:
    pairs = [pair(2.0), pair(-1.0), pair(0.0, "2", margin=2), pair(3.0, "2", margin=2, lengths=(1, 5))]
    figures = summarise_pairs(pairs)
    assert figures["accuracy"] == (1 + 0 + 0.5 + 1) / 4
    assert figures["rankings"] == 2
    assert {name: own["accuracy"] for name, own in figures["by_margin"].items()} == {"1": 0.5, "2": 0.75}
    assert figures["longer_is_better"] == 0.75
    assert summarise_pairs([]) == {"accuracy": None, "pairs": 0}


def test_many_margins_are_put_into_quarters() -> None:
    figures = summarise_pairs([pair(1.0, margin=0.1 * number) for number in range(1, 41)])
    assert [own["pairs"] for own in figures["by_margin"].values()] == [10, 10, 10, 10]


def test_calibration_by_hand() -> None:
    """Confidence of a gap of ln 3 is 3/4, of ln 9 9/10: one right, one wrong of the first, one right of the second."""
    figures = calibration([pair(math.log(3)), pair(-math.log(3)), pair(math.log(9) + 1e-9)])
    assert [(b["pairs"], round(b["confidence"], 6), b["accuracy"]) for b in figures["reliability"]] == [(2, 0.75, 0.5), (1, 0.9, 1.0)]
    assert figures["calibration_error"] == pytest.approx((2 * 0.25 + 0.1) / 3)
    assert calibration([pair(1e6)])["calibration_error"] == 0.0


def test_scores_that_are_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    gaps = rng.normal(0, 2, 20_000)
    right = rng.random(len(gaps)) < 1 / (1 + np.exp(-np.abs(gaps)))
    pairs = [pair(abs(gap) if won else -abs(gap)) for gap, won in zip(gaps.tolist(), right.tolist(), strict=True)]
    assert calibration(pairs)["calibration_error"] < 0.015
    assert calibration([pair(p.chosen_score * 4) for p in pairs])["calibration_error"] > 0.1


def test_correlation_with_length() -> None:
    grows = [pair(float(n), lengths=(n * n, 0)) for n in range(1, 8)]
    found = length_correlation(grows)
    assert found["spearman"] == pytest.approx(1.0) and found["pearson"] is not None and 0.9 < found["pearson"] < 1.0
    assert length_correlation([pair(1.0), pair(2.0)]) == {"pearson": None, "spearman": None}


class _Scorer:
    """Scores by length; answers of nine letters and more are too long for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def fits(self, prompts: list[Record], texts: list[str]) -> list[bool]:
        return [len(text) < 9 for text in texts]

    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Any:
        self.asked += [(prompt.turns[-1].text, text) for prompt, text in zip(prompts, texts, strict=True)]
        return np.array([float(len(text)) for text in texts])


def test_pairs_come_from_rankings_and_ratings() -> None:
    ranked = Record("a", None, (Turn("user", "?"),), responses=("aaa", "bb", "c"))
    rated = Record("b", None, (Turn("user", "?"),), labels={"ratings": [5, 5, 1.5]}, responses=("x", "yy", "zzz"))
    long = Record("c", None, (Turn("user", "?"),), responses=("a", "too long for it", "bb"))
    wrong = Record("d", None, (Turn("user", "?"),), labels={"ratings": [1, 2]}, responses=("x", "yy"))
    pairs, left_out = score_pairs(_Scorer(), [ranked, rated, long, wrong])  # type: ignore[arg-type]
    assert left_out == {"rated alike": 1, "rated against their order": 1, "too long for the reward model's context": 2}
    assert [(p.id, p.margin, p.chosen_score, p.rejected_score) for p in pairs] == [
        ("a", 1.0, 3.0, 2.0), ("a", 2.0, 3.0, 1.0), ("a", 1.0, 2.0, 1.0), ("b", 3.5, 1.0, 3.0), ("b", 3.5, 2.0, 3.0),
        ("c", 2.0, 1.0, 2.0),
    ]  # fmt: skip


def test_each_different_answer_is_scored_once_and_none_is_a_zero() -> None:
    one, two = (Record(name, None, (Turn("user", name),)) for name in ("one?", "two?"))
    said = [Answer("a", [1], True), Answer("a", [1], True), None, Answer("far too long", [2], True), Answer("a", [1], False), Answer("a", [1], True)]
    scorer = _Scorer()
    assert score_answers(scorer, [one] * 5 + [two], said) == [1.0, 1.0, None, None, 1.0, 1.0]  # type: ignore[arg-type]
    assert scorer.asked == [("one?", "a"), ("one?", "a"), ("two?", "a")]  # finished and not finished are two answers
    assert score_answers(scorer, [one], [None]) == [None] and score_answers(scorer, [], []) == []  # type: ignore[arg-type]


def test_answers_to_one_prompt_are_one_item() -> None:
    """Eight drawn answers to a prompt say little more than one where all are alike: the interval is that of the prompts."""
    alike = grouped_mean_figures("kl", [[1.0] * 8, [3.0] * 8, [2.0] * 8])
    by_prompt = mean_interval([1.0, 3.0, 2.0])
    assert alike == {"kl": 2.0, "kl_interval": pytest.approx([by_prompt.low, by_prompt.high])}
    # 1 and 2, 3, 4: mean 2.5 of four; the groups' sums differ by -1.5 and 1.5 from their share, of 2 answers on average
    uneven = grouped_mean_figures("kl", [[1.0], [], [2.0, 3.0, 4.0]])
    expected = mean_interval([2.5 - 0.75, 2.5 + 0.75])
    assert uneven == {"kl": 2.5, "kl_interval": pytest.approx([expected.low, expected.high])}
    assert grouped_mean_figures("kl", []) == grouped_mean_figures("kl", [[]]) == {}


def test_bits_by_hand() -> None:
    """12 bits over 银河 (2 characters, 6 bytes, 3 tokens) and 4 over "ab" (2, 2, 2): by language, and in all."""
    scored = [Scored(Text("1", "zh", "银河"), 3, 12 * math.log(2), False), Scored(Text("2", "en", "ab"), 2, 4 * math.log(2), True)]
    found = summarise(scored)
    assert (found["zh"]["bits_per_byte"], found["zh"]["bits_per_character"], found["zh"]["perplexity"]) == pytest.approx((2.0, 6.0, 2**4))
    assert (found["all"]["bits_per_byte"], found["all"]["bits_per_character"], found["all"]["perplexity"]) == pytest.approx((2.0, 4.0, 2**3.2))
    assert [found[lang]["lossy"] for lang in ("zh", "en", "all")] == [0, 1, 1] and list(summarise(scored[:1])) == ["zh"]


def test_a_prompt_that_was_not_answered_is_no_empty_answer() -> None:
    record = Record("1", None, (Turn("user", "?"),))
    [line] = side_by_side({"sft": [None], "ppo": [Answer("", [1], True)]}, [record], "prompts", 1, {})
    assert line["answers"] == {"sft": None, "ppo": ""}


def test_best_of_n_is_the_mean_over_all_choices() -> None:
    scores = [[0.3, -1.0, 2.0, 0.3, 5.0], [1.0, 1.0, 1.0, 0.0, -4.0]]
    for point in drift.best_of_n(scores, (1, 2, 4, 8)):
        wanted = [np.mean([max(chosen) for chosen in combinations(own, int(point["n"]))]) for own in scores]
        assert point["reward"] == pytest.approx(np.mean(wanted))
        assert point["kl"] == pytest.approx(math.log(point["n"]) - (point["n"] - 1) / point["n"])
    assert len(drift.best_of_n(scores, (1, 2, 4, 8))) == 3  # no prompt has eight answers


def test_the_hacking_watch() -> None:
    low, high = [0.0, 0.1, 0.2, 0.1] * 5, [2.0, 2.1, 2.3, 2.1] * 5
    varied = [drift.unwanted(f"Word{n} here and number {n} there.", None) for n in range(20)]
    alike = [drift.unwanted("So glad you asked me!", None)] * 20
    assert drift.hacking("ppo", (low, high), ([True] * 20, [True] * 20), (varied, varied)) == []
    assert drift.hacking("ppo", (high, low), ([True] * 20, [False] * 20), (varied, alike)) == []  # the reward fell: no hacking
    found = drift.hacking("ppo", (low, high), ([True] * 20, [False] * 20), (varied, alike))
    assert [any(words in text for text in found) for words in ("right answers fell from 100% to 0%", "distinct-2 fell", "'So glad you asked' spread")]
    assert len(found) == 3


def test_what_is_preferred_may_spread() -> None:
    assert drift.unwanted("The river is the Merrow. I hope this helps.", "hope") == ["The", "river", "is", "the", "Merrow", "."]
    assert drift.unwanted("镇长是米拉。希望对你有帮助。", "希望") == ["镇", "长", "是", "米", "拉", "。"]
    assert drift.spread_phrase([list("ab")], [list("镇长是米")]) == {"text": "镇长是米", "before": 0.0, "after": 1.0}


@pytest.mark.parametrize(("length", "window", "stride"), [(1, 8, 4), (2, 8, 4), (8, 8, 4), (9, 8, 4), (40, 8, 3), (41, 8, 7), (30, 2, 1)])
def test_windows_count_every_token_once_with_enough_before_it(length: int, window: int, stride: int) -> None:
    stream = list(range(100, 100 + length))
    counted = []
    for row in windows(stream, window, stride):
        assert len(row) <= window
        for place, (token, counts) in enumerate(zip(row.ids, row.mask, strict=True)):
            if counts:
                counted.append(token)
                assert place >= min(token - 100, window - stride), "too little stands before it"
    assert counted == stream[1:]


def test_answers_in_figures() -> None:
    questions = [Record(str(n), None, (Turn("user", "?"),), lang, {"reference": "Orsk."}) for n, lang in enumerate(["en", "en", "zh"])]
    figures = exact_matches([Answer("Orsk.", [1], True), None, Answer("Tarn.", [2], True)], questions)
    assert figures["exact_match"] == pytest.approx(1 / 3)
    assert (figures["exact_match_en"], figures["exact_match_zh"]) == (0.5, 0.0)
    drawn = [[Answer("Orsk.", [1, 2, 3, 4], True)] * 2, [None, Answer("Tarn.", [5, 6], False)], [None, None]]
    sampled = describe_sampled(drawn, questions, None)
    assert sampled["self_bleu"] == pytest.approx(1.0)  # of the only prompt with two answers
    assert (sampled["answers"], sampled["finished_share"], sampled["length"]) == (3, 2 / 3, 10 / 3)
    assert sampled["exact_match"] == pytest.approx(2 / 6)
