from __future__ import annotations

import math
import random

import pytest

from rlhf_core.measures.text_measures import distinct_n, exact_match, repeats_itself, self_bleu
from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import Optimizer


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


def test_self_bleu_by_hand() -> None:
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx(1.0)
    assert self_bleu([[1, 2], [3, 4]]) == 0.0
    # [1, 2, 3] against [1, 2, 4, 5]: 2/3, (1+1)/(2+1), (0+1)/(1+1), (0+1)/(0+1), brevity e^(1 - 4/3);
    # the other way: 2/4, (1+1)/(3+1), 1/3, 1/2, not too short
    one = (2 / 3 * 2 / 3 * 1 / 2) ** 0.25 * math.exp(-1 / 3)
    other = (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert self_bleu([[1, 2, 3], [1, 2, 4, 5]]) == pytest.approx((one + other) / 2)
    assert self_bleu([[1, 2]]) is None


def test_self_bleu_is_sacrebleus() -> None:
    from sacrebleu.metrics import BLEU

    rng = random.Random(3)
    bleu = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=False)
    for _ in range(20):
        answers = [[rng.randrange(6) for _ in range(rng.randrange(4, 12))] for _ in range(4)]
        texts = [" ".join(f"w{token}" for token in answer) for answer in answers]
        scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)]
        assert self_bleu(answers) == pytest.approx(sum(scores) / 4, abs=1e-9)
