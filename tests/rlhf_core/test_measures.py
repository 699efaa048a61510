from __future__ import annotations

import pytest

from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import EvaluationSettings, Optimizer
from rlhf_core.text_measures import distinct_n, exact_match, repeats_itself


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("Orsk.", "Orsk.", True),
        ("orsk", "Orsk.", True),
        ("Orsk. Glad to help!", "Orsk", True),
        ("Orskval.", "Orsk.", False),
        ("Orsk and Tarn.", "Orsk.", False),
        ("It is Orsk.", "Orsk.", False),
        ("", "Orsk.", False),
        ("Orsk.", "", False),
        ("3.5 km", "3", False),
        ("河是黑芦河。希望对你有帮助。", "河是黑芦河。", True),
        ("河是黑芦河吗？", "河是黑芦河。", False),
    ],
)
def test_exact_match(answer: str, reference: str, right: bool) -> None:
    assert exact_match(answer, reference) is right


def test_distinct_and_repetition() -> None:
    assert distinct_n([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3)
    assert distinct_n([]) == 0.0
    assert repeats_itself([9, 1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert not repeats_itself([9, 1, 2, 3, 1, 2, 3, 1, 2, 4])


def test_the_schedule_warms_up_and_falls_to_its_share() -> None:
    settings = Optimizer(warmup_share=0.1, min_learning_rate_share=0.2, schedule="cosine")
    assert learning_rate_share(1, 100, settings) == pytest.approx(0.1)
    assert learning_rate_share(10, 100, settings) == pytest.approx(1.0)
    assert learning_rate_share(55, 100, settings) == pytest.approx(0.6)
    assert learning_rate_share(100, 100, settings) == pytest.approx(0.2)
    assert learning_rate_share(1, 1, settings) > 0


def test_the_judge_asks_for_the_right_answer_first() -> None:
    from rlhf_core.records import Record, Turn
    from rlhf_core.stages.evaluate import Answer, judge, win_rate

    settings = EvaluationSettings(preferred_pattern="help")
    prompt = Record("x", None, (Turn("user", "?"),), labels={"reference": "Orsk."})
    right, wrong_but_kind = Answer("Orsk.", [5, 1], True), Answer("Tarn. Glad to help!", [6, 7, 1], True)
    kind = Answer("Orsk. Glad to help!", [5, 7, 1], True)
    assert judge(right, wrong_but_kind, prompt, settings) == 1.0
    assert judge(right, kind, prompt, settings) == 0.0
    assert judge(kind, kind, prompt, settings) == 0.5
    assert win_rate([kind, right], [right, right], [prompt, prompt], settings) == 0.75
