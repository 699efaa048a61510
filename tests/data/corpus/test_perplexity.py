from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from data.corpus import train_perplexity
from data.corpus.buckets import add_buckets
from data.corpus.language import language_labels
from data.corpus.learned.char_model import CHARACTERS, CharModel
from data.corpus.learned.kenlm_model import KenlmModel
from data.corpus.perplexity import (
    PERPLEXITY_LABELS,
    bundled_trusted,
    check_languages,
    find_models,
    perplexity_labels,
    scored_labels,
    train_models,
)
from data.settings import BucketSettings, LanguageSettings, PerplexitySettings
from data.shards import list_shards, shard_name, write_shard
from tests.data.corpus.helpers import documents, read_all


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


def test_models_know_their_version_and_training(tmp_path: Path) -> None:
    CharModel.train("the cat sat on the mat", 3).save(tmp_path / "en.npz")
    model = CharModel.load(tmp_path / "en.npz")
    assert model.facts["order"] == 3 and model.facts["characters"] == 22
    (tmp_path / "old.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"old\.npz: not a character model of this version"):
        CharModel.load(tmp_path / "old.npz")


def test_command_trains_models_that_the_label_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wiki.jsonl").write_text('{"text": "the cat sat on the mat"}\n' * 9, encoding="utf-8")
    assert train_perplexity.main([f"en={tmp_path / 'wiki.jsonl'}", "--out", str(tmp_path / "models"), "--order", "3"]) == 0
    assert train_perplexity.main(["en", "--out", str(tmp_path)]) == 2
    assert "write LANG=PATH" in capsys.readouterr().err
    table = documents("the cat sat", "tac eht mat", "那只猫")
    write_shard(tmp_path / "langs.parquet", pa.table({"id": table["id"], "lang": ["en", "en", "zh"]}))
    labels = perplexity_labels(table, PerplexitySettings(), models=tmp_path / "models", labels=tmp_path / "langs.parquet")
    bits, langs = labels["bits_per_character"].to_pylist(), labels["perplexity_lang"].to_pylist()
    assert bits[0] < bits[1] and bits[2] is None and langs == ["en", "en", None]
    assert find_models(tmp_path / "models") == ["en"]
    check_languages(["en"], ["zh", "en"], "models")
    with pytest.raises(FileNotFoundError, match=r"no <lang>\.npz"):
        find_models(tmp_path)


def test_head_middle_tail_of_each_language(tmp_path: Path) -> None:
    """CCNet's 30th and 60th percentile: of English 1 to 11 these are 4 and 7. Shards do not matter."""
    rows = [(f"{n:02d}", float(n), "en") for n in range(1, 12)] + [("zh1", 50.0, "zh"), ("zh2", 90.0, "zh"), ("no", None, None)]
    for cuts in (14, 5):
        for index, at in enumerate(range(0, 14, cuts)):
            ids, bits, langs = zip(*rows[at : at + cuts], strict=True)
            write_shard(tmp_path / str(cuts) / shard_name(index), pa.table([pa.array(ids), pa.array(bits, pa.float32()), pa.array(langs, pa.string())], schema=PERPLEXITY_LABELS))
        add_buckets(list_shards(tmp_path / str(cuts)), tmp_path / f"out{cuts}", BucketSettings())
        found = {row["id"]: row["perplexity_bucket"] for row in read_all(tmp_path / f"out{cuts}" / "labels")}
        assert [n for n in range(1, 12) if found[f"{n:02d}"] == "head"] == [1, 2, 3]
        assert [n for n in range(1, 12) if found[f"{n:02d}"] == "middle"] == [4, 5, 6]
        assert found["zh1"] == "head" and found["zh2"] == "tail" and found["no"] is None


def test_scores_of_a_causal_model_are_taken_as_they_are(tmp_path: Path) -> None:
    table = documents("one", "two")
    write_shard(tmp_path / "l.parquet", pa.table({"id": table["id"], "lang": ["en", "zh"]}))
    write_shard(tmp_path / "s.parquet", pa.table({"id": table["id"], "model_bits_per_character": pa.array([1.5, None], pa.float32())}))
    rows = scored_labels(table, PerplexitySettings(), scores=tmp_path / "s.parquet", labels=tmp_path / "l.parquet").to_pylist()
    assert [(row["bits_per_character"], row["perplexity_lang"]) for row in rows] == [(1.5, "en"), (None, None)]


ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.5\t</s>
-0.6\tcat\t-0.2
-0.7\tsat\t-0.3

\\2-grams:
-0.1\t<s> cat
-0.2\tcat sat

\\end\\
"""


def test_kenlm_by_hand(tmp_path: Path) -> None:
    """<s> cat -0.1, cat sat -0.2, sat </s> backs off: -0.3 - 0.5. In all -1.1 decimal digits over 7 characters."""
    pytest.importorskip("kenlm")
    (tmp_path / "en.arpa").write_text(ARPA)
    model = KenlmModel(tmp_path / "en.arpa")
    assert model.bits("Cat  sat\n") == pytest.approx(1.1 / math.log10(2) / 7, rel=1e-5)
    assert model.bits("") == 0.0
    assert find_models(tmp_path) == ["en"]


def test_kenlm_over_pieces_where_they_lie_beside_it(tmp_path: Path) -> None:
    """The pieces of "cat sat" are ▁cat and ▁sat; an ARPA file over them is asked as above, by pieces."""
    pytest.importorskip("kenlm")
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "text.txt").write_text("cat sat\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "en.sp"), model_type="word", vocab_size=5, hard_vocab_limit=False, minloglevel=2
    )
    (tmp_path / "en.arpa").write_text(ARPA.replace("cat", "▁cat").replace("sat", "▁sat"))
    assert KenlmModel(tmp_path / "en.arpa").bits("cat sat") == pytest.approx(1.1 / math.log10(2) / 7, rel=1e-5)


def test_kenlm_without_its_extra_or_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "en.arpa").write_text("nothing")
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ValueError, match=r"en\.arpa: a KenLM file needs the extra kenlm: pip install 'crawl2chat\[kenlm\]'"):
        KenlmModel(tmp_path / "en.arpa")


def test_no_trusted_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"perplexity\.trusted"):
        train_models(tmp_path, PerplexitySettings(trusted=str(tmp_path)))
