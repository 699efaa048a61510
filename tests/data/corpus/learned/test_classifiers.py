from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.corpus import train_quality, train_topic
from data.corpus.language import bundled_model
from data.corpus.learned.classifiers import (
    classifier_labels,
    classifier_schema,
    load_classifier,
    sample,
    text_features,
)
from data.corpus.learned.examples import read_examples, texts_of
from data.corpus.learned.linear_model import LinearModel, area_under_curve, train
from data.settings import ClassifierSettings
from tests.data.corpus.helpers import documents

ENGLISH = ["the river runs past the old mill", "bread is baked in the stone oven", "the mayor opened the spring fair", "rain fell on the hills all night"]
SPAM = ["buy cheap pills now online", "win cash bonus click here now", "cheap watches best price click", "online bonus pills win big now"]


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_probability_by_hand() -> None:
    """Two features of weights 1 and 3 for class b, value 1/sqrt(2) each, bias 0.5: p(b) = sigmoid(4 / sqrt(2) + 0.5)."""
    weights = np.zeros((4, 2), np.float32)
    weights[1, 1], weights[3, 1] = 1, 3
    model = LinearModel("x", ("a", "b"), weights, np.array([0, 0.5], np.float32), {})
    found = model.probabilities([np.array([1, 3], np.uint32), np.zeros(0, np.uint32), np.array([2], np.uint32)])
    assert found[:, 1] == pytest.approx([1 / (1 + np.exp(-(4 / 2**0.5 + 0.5))), 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-0.5))])


def test_area_under_curve_by_hand() -> None:
    """Positives 0.9 and 0.5 against 0.5 and 0.1: of four pairs three are right and one is a tie."""
    assert area_under_curve(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])) == 3.5 / 4


@pytest.mark.slow
def test_it_learns_what_scikit_learn_learns() -> None:
    """Five topics drawn over a common vocabulary: as right as scikit-learn on the same held-out tenth, or nearly."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    base = random.dirichlet(np.full(500, 0.3))
    topics = [0.8 * base + 0.2 * random.dirichlet(np.full(500, 0.1)) for _ in range(3)]
    features = [np.unique(random.choice(500, 40, p=topics[n % 3])).astype(np.uint32) for n in range(600)]
    labels = [str(n % 3) for n in range(600)]
    model = train("x", features, labels, 9, seed=1)
    assert model.facts["examples"] == {"0": 200, "1": 200, "2": 200} and model.facts["held_out"] > 30
    rows = DictVectorizer().fit_transform([{str(f): len(part) ** -0.5 for f in part.tolist()} for part in features])
    peer = LogisticRegression(C=30, max_iter=100).fit(rows[:500], labels[:500])
    own = train("x", features[:500], labels[:500], 9, seed=1).probabilities(features[500:]).argmax(axis=1)
    assert (own == np.array(labels[500:], dtype=int)).mean() >= peer.score(rows[500:], labels[500:]) - 0.03
    assert peer.score(rows[500:], labels[500:]) > 0.6


def test_held_out_figures() -> None:
    """Two classes that differ in one word in two: of three hundred texts the held-out ones are nearly all told apart."""
    random = np.random.default_rng(1)
    features = [np.unique(np.concatenate([random.integers(0, 200, 8), random.integers(200, 220, 4) + 20 * (n % 2)])).astype(np.uint32) for n in range(300)]
    facts = train("x", features, ["ab"[n % 2] for n in range(300)], 8, seed=1).facts
    assert facts["examples"] == {"a": 150, "b": 150} and 15 < facts["held_out"] < 50
    assert facts["accuracy"] > 0.9 and facts["auc"] > 0.95


def test_the_same_model_twice_and_no_model_at_all(tmp_path: Path) -> None:
    features = text_features(ENGLISH + SPAM)
    for name in ("a.npz", "b.npz"):
        train("quality", features, ["trusted"] * 4 + ["raw"] * 4, 18, seed=1).save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match="a quality model of version 1; needed: topic"):
        LinearModel.load(tmp_path / "a.npz", "topic")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    np.savez(tmp_path / "pickled.npz", about=np.array([{}], dtype=object), weights=np.zeros(1), bias=np.zeros(1))
    whole = (tmp_path / "a.npz").read_bytes()
    body = whole.index(b"weights.npy") + len(b"weights.npy") + 20  # behind the head of the largest part: what is compressed
    (tmp_path / "damaged.npz").write_bytes(whole[:body] + bytes(byte ^ 0xFF for byte in whole[body : body + 10]) + whole[body + 10 :])
    for name in ("broken.npz", "pickled.npz", "damaged.npz"):
        with pytest.raises(ValueError, match="not a model of this project"):
            LinearModel.load(tmp_path / name, "quality")
    with pytest.raises(ValueError, match="needs two classes"):
        train("x", features, ["one"] * 8, 18, seed=1)


def test_sampling_depends_on_texts_alone() -> None:
    chosen = sample(ENGLISH + SPAM, 3, 18, seed=1)
    again = sample(reversed(ENGLISH + SPAM + [""]), 3, 18, seed=1)
    assert len(chosen) == 3 and all(np.array_equal(a, b) for a, b in zip(chosen, again, strict=True))


def test_commands_train_what_the_labels_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "good.txt", ENGLISH * 5)
    _write(tmp_path / "bad.jsonl", [json.dumps({"body": text}) for text in SPAM * 5])
    sides = ["--trusted", str(tmp_path / "good.txt"), "--raw", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "q.npz")]
    assert train_quality.main(sides) == 2
    assert "the class 'raw' has no text" in capsys.readouterr().err
    assert train_quality.main([*sides, "--text-field", "text,body"]) == 0
    assert '"raw": ' in capsys.readouterr().out
    _write(tmp_path / "bad.jsonl", [json.dumps({"text": text}) for text in SPAM * 5])
    assert train_quality.main(sides) == 0
    assert '"trusted": 20' in capsys.readouterr().out
    _write(tmp_path / "topics.jsonl", [json.dumps({"text": text, "topic": "河流" if "river" in text else "bread"}) for text in ENGLISH[:2]])
    assert train_topic.main([str(tmp_path / "topics.jsonl"), "--out", str(tmp_path / "t.npz")]) == 0
    config = ClassifierSettings(quality_model=str(tmp_path / "q.npz"), topic_model=str(tmp_path / "t.npz"))
    rows = classifier_labels(documents("the mill on the river", "cheap pills click now", " "), config).to_pylist()
    assert rows[0]["quality_score"] > 0.5 > rows[1]["quality_score"] and rows[2]["quality_score"] is None
    assert rows[0]["topic"] == "河流" and rows[0]["topic_score"] > 0.5 and rows[2]["topic"] is None
    with pytest.raises(ValueError, match=r"classifiers\.trusted_class: .* has no class 'hq'; its classes: raw, trusted"):
        classifier_labels(documents("x"), config.model_copy(update={"trusted_class": "hq"}))
    assert classifier_schema(ClassifierSettings()).names == ["id"]


def test_a_fasttext_file_serves_as_well(tmp_path: Path) -> None:
    config = ClassifierSettings(quality_model=str(bundled_model()), trusted_class="en", topic_model=str(bundled_model()))
    rows = classifier_labels(documents("The committee published its report on Tuesday.\nAll agreed.", "委员会星期二公布了报告。"), config).to_pylist()
    assert rows[0]["quality_score"] > 0.8 > 0.2 > rows[1]["quality_score"]
    assert [row["topic"] for row in rows] == ["en", "zh"]
    (tmp_path / "no.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a fastText model"):
        load_classifier(str(tmp_path / "no.bin"), "quality")


def test_chinese_has_features_of_its_own() -> None:
    assert [len(part) for part in text_features(["灰旗同盟", "", "one two three"])] == [4 + 3 + 2, 0, 3 + 2]
    assert np.array_equal(*text_features(["ＯＮＥ two", "one Two"]))


def test_examples_of_every_kind(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    _write(tmp_path / "a.txt", ["one", "", "two"])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "three"}\n'))
    pq.write_table(pa.table({"text": ["four"]}), tmp_path / "c.parquet")
    (tmp_path / "d.md").write_text("no example")
    (tmp_path / "e.txt.zst").write_bytes(pa.Codec("zstd").compress("five\n六\n".encode(), asbytes=True))
    expected = [("a", "one"), ("a", "two"), ("b", "three"), ("c", "four"), ("e", "five"), ("e", "六")]
    assert [(row["file"], row["text"]) for row in read_examples(tmp_path)] == expected
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "three"}\n' * 1000)[:-20])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: cannot be read on: the file ends inside a gzip member"):
        list(read_examples(tmp_path / "cut.jsonl.gz"))
    for text, message in (("[1]", r"b\.jsonl:1: a row is a JSON object"), ("{", r"b\.jsonl:1: not JSON")):
        with pytest.raises(ValueError, match=message):
            list(read_examples(_write(tmp_path / "b.jsonl", [text])))
    with pytest.raises(FileNotFoundError, match=r"no \.txt"):
        list(read_examples(tmp_path / "d.md"))
    turns = {"turns": [{"role": "user", "text": "ask"}], "choices": ["a", "", "b"], "n": 1}
    assert texts_of(turns, ["turns", "choices", "n", "none"]) == ["ask", "a", "b"]
