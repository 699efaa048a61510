from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from data.corpus.char_model import CHARACTERS, CharModel
from data.corpus.language import language_labels
from data.corpus.perplexity import bundled_trusted, perplexity_labels, train_models
from data.settings import LanguageSettings, PerplexitySettings
from data.shards import write_shard
from tests.data.corpus.helpers import documents


def test_witten_bell_by_hand() -> None:
    """Trained on "abab": unigrams a 2, b 2 (N 4, T 2); after a: b 2 (N 2, T 1); after b: a 1 (N 1, T 1)."""
    model = CharModel.train("abab", 2)
    unigram = (2 + 2 / CHARACTERS) / 6
    b_after_a = (2 + unigram) / 3
    assert model.bits("ab") == pytest.approx(-(math.log2(unigram) + math.log2(b_after_a)) / 2, rel=1e-5)
    unseen = (2 / 6) / CHARACTERS
    assert model.bits("x") == pytest.approx(-math.log2(unseen), rel=1e-5)
    b_after_b = (1 / 2) * unigram
    assert model.bits("bb") == pytest.approx(-(math.log2(unigram) + math.log2(b_after_b)) / 2, rel=1e-5)


def test_probabilities_sum_to_one() -> None:
    model = CharModel.train("the cat sat on the mat and the rat sat on the hat", 3)
    seen = sorted(set("the cat sat on the mat and the rat sat on the hat"))
    for context in ("th", "a", " ", "zz"):
        base = model.bits(context) * len(context)
        known = sum(2 ** -(model.bits(context + "\u3400" * 0 + c) * (len(context) + 1) - base) for c in seen if c != " ")
        assert known < 1


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = CharModel.train(" ".join(f"sentence number {n}" for n in "abcdefghij"), 4)
    model.save(tmp_path / "m.npz")
    model.save(tmp_path / "n.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()
    assert CharModel.load(tmp_path / "m.npz").bits("sentence unheard") == pytest.approx(model.bits("sentence unheard"))
    with pytest.raises(ValueError, match="too short"):
        CharModel.train("ab", 4)


def test_long_texts_are_scored_in_blocks() -> None:
    model = CharModel.train("the cat sat on the mat " * 5, 4)
    text = "the cat sat on the mat " * 20_000
    assert model.bits(text) == pytest.approx(model.bits(text[: len(text) // 4]), rel=1e-3)


@pytest.mark.skipif(not bundled_trusted().exists(), reason="no samples")
def test_gibberish_surprises_more_than_foreign_prose(tmp_path: Path) -> None:
    rng = random.Random(1)
    prose = "The committee published its report on Tuesday, and most newspapers printed a summary of the findings."
    noise = " ".join("".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9))) for _ in range(20))
    chinese = "委员会星期二公布了报告，多数报纸刊登了主要内容，也有人提出了不同的意见。"
    noise_zh = "".join(chr(rng.randrange(0x4E00, 0x9FA0)) for _ in range(40))
    assert train_models(tmp_path / "models", PerplexitySettings()) == ["en", "zh"]
    table = documents(prose, noise, chinese, noise_zh, "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter.")
    langs = language_labels(table, LanguageSettings()).set_column(1, "lang", [["en", "en", "zh", "zh", "de"]])
    write_shard(tmp_path / "labels.parquet", langs)
    labels = perplexity_labels(table, PerplexitySettings(), models=tmp_path / "models", labels=tmp_path / "labels.parquet")
    bits = labels["bits_per_character"].to_pylist()
    assert bits[1] > 1.5 * bits[0]
    assert bits[3] > 1.3 * bits[2]
    assert bits[4] is None


def test_no_trusted_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"perplexity\.trusted"):
        train_models(tmp_path, PerplexitySettings(trusted=str(tmp_path)))
