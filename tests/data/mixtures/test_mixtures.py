"""A mixture is planned to the token, by counts alone; its sources are gathered and sampled."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from data.mixtures.account import compare, markdown
from data.mixtures.plan import Size, allot, make
from data.mixtures.sampling import Labels, copies, sample_conversations, sample_shards
from data.mixtures.settings import LabelSampling, MixtureSettings
from data.mixtures.sources import as_rows, gather, measure
from data.shards import read_shard, write_shard


def mixture(tokens: int, sources: dict[str, Any], **more: Any) -> MixtureSettings:
    return MixtureSettings.model_validate({"tokens": tokens, "sources": {name: {"origin": name, **source} for name, source in sources.items()}, **more})


def sizes(**tokens: int) -> dict[str, Size]:
    return {name: Size("documents", max(1, count // 10), count) for name, count in tokens.items()}


# ---- the plan ----


def test_tokens_by_weight_and_what_a_capped_source_cannot_give() -> None:
    # 3:1:1 of 1000 is 600, 200, 200; b has 50 tokens and one epoch, so its 150 go 3:1 to a and c: 112.5 and 37.5
    plan = make(sizes(a=10_000, b=50, c=10_000), mixture(1000, {"a": {"weight": 3}, "b": {"max_epochs": 1}, "c": {}}))
    [phase] = plan["phases"]
    assert phase["read"] == {"a": 713, "b": 50, "c": 237}  # 712.5 and 237.5: the odd token goes to the first
    assert (phase["capped"], phase["sources"]["b"]) == (["b"], 0.05)


def test_a_cap_holds_over_all_phases() -> None:
    phases = [{"name": "one", "share": 1}, {"name": "two", "share": 3, "weights": {"b": 3}}]
    plan = make(sizes(a=10_000, b=100), mixture(800, {"a": {}, "b": {"max_epochs": 2}}, phases=phases))
    assert [phase["read"] for phase in plan["phases"]] == [{"a": 100, "b": 100}, {"a": 500, "b": 100}]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("late", [("stable", {"web": 900, "sft": 0}), ("late", {"web": 70, "sft": 30})]),
        ("early", [("early", {"web": 70, "sft": 30}), ("stable", {"web": 900, "sft": 0})]),
        ("throughout", [("throughout", {"web": 700, "sft": 300})]),
    ],
)
def test_schedules(schedule: str, expected: list[tuple[str, dict[str, int]]]) -> None:
    plan = make(sizes(web=9000, sft=9000), mixture(1000, {"web": {}, "sft": {}}, schedule=schedule, good=["sft"], good_share=0.3))
    assert [(phase["name"], phase["read"]) for phase in plan["phases"]] == expected


@given(
    st.integers(1, 10**12), st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**12)), min_size=1, max_size=6)
)
def test_a_deal_adds_up_and_keeps_to_the_caps(tokens: int, rows: list[tuple[float, int]]) -> None:
    weights = {str(i): weight for i, (weight, _) in enumerate(rows)}
    left = {str(i): limit for i, (_, limit) in enumerate(rows)}
    given_, capped = allot(tokens, weights, left)
    able = sum(left[name] for name in weights if weights[name] > 0)
    assert sum(given_.values()) == min(tokens, able)
    assert all(0 <= given_[name] <= left[name] for name in weights)
    assert all(given_[name] == left[name] for name in capped)


def test_a_plan_that_cannot_be_kept_says_why() -> None:
    with pytest.raises(ValueError, match=r"'throughout' asks for 1,000 tokens and its sources have 400 left \(a 400\); raise max_epochs"):
        make(sizes(a=100), mixture(1000, {"a": {}}))
    with pytest.raises(ValueError, match="'a' was not measured; measured: b"):
        make(sizes(b=1), mixture(1, {"a": {}}))
    with pytest.raises(ValueError, match="'a' is empty"):
        make({"a": Size("documents", 0, 0)}, mixture(1, {"a": {}}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"good": ["c"]}, {"schedule": "late"}, {"schedule": "late", "good": ["a", "b"]}, {"phases": [{"name": "x", "share": 0}]},
        {"phases": [{"name": "x", "share": 1, "weights": {"c": 1}}]}, {"phases": [{"name": "x", "share": 1, "weights": {"a": 0, "b": 0}}]},
        {"phases": [{"name": "x", "share": 1}] * 2}, {"sources": {}}, {"sources": {"A b": {"origin": "x"}}},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MixtureSettings.model_validate({"tokens": 10, "sources": {"a": {"origin": "x"}, "b": {"origin": "y"}}, **wrong})


def test_a_plan_of_a_hundred_million_documents_is_arithmetic_on_counts() -> None:
    size = {"web": Size("documents", 100_000_000, 100_000_000 * 700), "sft": Size("conversations", 50_000_000, 50_000_000 * 200)}
    wanted = mixture(150_000_000_000, {"web": {"weight": 9}, "sft": {}}, schedule="late", good=["sft"], good_share=0.4)
    tracemalloc.start()
    plan = make(size, wanted)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert sum(sum(phase["read"].values()) for phase in plan["phases"]) == 150_000_000_000
    assert len(json.dumps(plan)) < 2000


# ---- planned and read ----


@pytest.fixture
def plan() -> dict[str, Any]:
    size = {"a": Size("documents", 7, 134), "b": Size("documents", 3, 13)}
    phases = [{"name": "one", "share": 2}, {"name": "two", "share": 1, "weights": {"a": 1}}]
    return make(size, mixture(300, {"a": {"weight": 3}, "b": {"max_epochs": None}}, phases=phases))


def test_what_was_read_stands_beside_what_was_planned(plan: dict[str, Any]) -> None:
    rows = compare(plan, [{"a": 150, "b": 50}, {"a": 50, "b": 50}])
    assert [(row["planned"], row["read"]) for row in rows] == [(150, 150), (50, 50), (50, 50), (50, 50)]
    assert rows[-1]["epochs"] == round(100 / 13, 4)
    assert "| two | b | 50 | 50 | 50.0% | 7.69 |" in markdown(rows)


# ---- sampling by quality or label ----


def test_copies_have_the_expected_number_and_depend_on_the_id_alone() -> None:
    ids = [f"d{i}" for i in range(20_000)]
    drawn = copies(ids, np.full(20_000, 1.25), 1)
    assert set(drawn.tolist()) == {1, 2}
    assert abs(drawn.mean() - 1.25) < 0.01  # standard deviation 0.003
    assert np.array_equal(copies(ids[::-1], np.full(20_000, 1.25), 1), drawn[::-1])
    assert copies(["x"], np.array([3.0]), 1).tolist() == [3] and copies(["x"], np.array([0.0]), 1).tolist() == [0]


def shard(path: Path, **columns: list[Any]) -> Path:
    write_shard(path, pa.table(columns))
    return path


def test_numbers_become_weights(tmp_path: Path) -> None:
    # z of (1, 3) is (-1, 1); exp(z / 2) = 0.6065, 1.6487, mean 1.1276
    labels = shard(tmp_path / "labels.parquet", id=["a", "b", "c"], quality=[1.0, 3.0, None])
    known = Labels([labels], LabelSampling(label="quality", otherwise=0.5))
    known.fit([["a"], ["b", "c", "never seen"]])
    assert known.weights(["b", "a", "c", "never seen"]).tolist() == pytest.approx([1.6487 / 1.1276, 0.6065 / 1.1276, 0.5, 0.5], abs=1e-4)
    capped = Labels([labels], LabelSampling(label="quality", temperature=0.3, max_copies=1.5))
    capped.fit([["a", "b"]])
    assert capped.weights(["b"]).tolist() == [1.5]
    cold = Labels([labels], LabelSampling(label="quality", temperature=0.001))
    cold.fit([["a", "b"]])
    assert cold.weights(["a", "b"]).tolist() == [0, 2]  # all of a mean of 1
    endless = Labels([shard(tmp_path / "endless.parquet", id=["a", "b", "c"], quality=[1.0, 3.0, float("inf")])], LabelSampling(label="quality"))
    endless.fit([["a", "b", "c"]])
    assert endless.weights(["b", "a", "c"]).tolist() == pytest.approx([1.6487 / 1.1276, 0.6065 / 1.1276, 1], abs=1e-4)
    with pytest.raises(ValueError, match="no label 'kindness'"):
        Labels([labels], LabelSampling(label="kindness"))
    with pytest.raises(ValueError, match="the label 'topic' is text: give it factors"):
        Labels([shard(tmp_path / "topics.parquet", id=["a"], topic=["book"])], LabelSampling(label="topic"))


def test_factors_are_named_as_in_json_and_one_must_fit(tmp_path: Path) -> None:
    labels = shard(tmp_path / "l.parquet", id=["a", "b"], clean=[True, False], stars=[1, 2])
    for label, factors in (("clean", {True: 3, "false": 0}), ("clean", {"True": 3, "False": 0}), ("stars", {1: 3, 2: 0})):
        assert Labels([labels], LabelSampling.model_validate({"label": label, "factors": factors})).weights(["a", "b"]).tolist() == [3, 0]
    with pytest.raises(ValueError, match="no value of the label 'stars' has a factor; values: 1, 2"):
        Labels([labels], LabelSampling(label="stars", factors={"five": 1}))


def test_sampling_by_a_number_takes_the_better_ones_more_often(tmp_path: Path) -> None:
    ids = [f"d{i}" for i in range(4000)]
    quality = np.random.default_rng(1).normal(size=4000)
    labels = [shard(tmp_path / "l.parquet", id=[*ids, *(f"dropped{i}" for i in range(4000))], quality=[*quality, *[99.0] * 4000])]
    documents = [shard(tmp_path / "d.parquet", id=ids, text=ids)]
    counts = sample_shards(documents, labels, LabelSampling(label="quality", temperature=1), 1, tmp_path / "out")
    assert 3600 < counts["rows"] < 4200  # a mean of one copy, less what max_copies takes; the dropped do not count
    rows = read_shard(tmp_path / "out" / "documents" / "part-00000.parquet")["id"].to_pylist()
    taken = np.array([rows.count(name) for name in ids[:400]])
    assert taken[quality[:400] > 1].mean() > 2 > 0.5 > taken[quality[:400] < -0.5].mean()


# ---- the sources as training reads them ----


def test_sources_are_gathered_and_measured(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shard(tmp_path / "corpus" / "documents" / "part-00000.parquet", id=["1", "2"], lang=["en", None], text=["a b c", None])
    (tmp_path / "sft.jsonl").write_text('{"input": "a b", "target": "b"}\n{broken\n{"prompt": "only asks"}\n')
    found = {}
    for name in ("corpus", "sft.jsonl"):
        gather(tmp_path / name, tmp_path / "out" / name)
        found[name] = measure(tmp_path / "out" / name, tmp_path / "tokenizer.json")
    assert found == {"corpus": Size("documents", 2, 3 + 0 + 2), "sft.jsonl": Size("conversations", 1, 3 + 1)}
    assert (tmp_path / "out" / "sft.jsonl" / "conversations.jsonl").read_text().count("\n") == 1
    with pytest.raises(ValueError, match="holds neither documents"):
        gather(tmp_path, tmp_path / "out" / "none")


def test_what_a_source_of_conversations_leaves_out_is_counted_and_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl").write_text('{"input": "a", "target": "b"}\n{broken\n{"prompt": "only asks"}\n{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    assert gather(tmp_path / "sft.jsonl", tmp_path / "out") == {"broken_json": 1, "no_answer": 1, "wrong_kind": 1}
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(line["source"], line["line"], line["reason"]) for line in rejected] == [("sft.jsonl", 2, "broken_json"), ("sft.jsonl", 4, "wrong_kind")]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl gives nothing to train on: 1 wrong_kind: preferences stand where"):
        gather(tmp_path / "bad.jsonl", tmp_path / "bad")


def test_conversations_are_sampled_by_their_labels(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    values = [{"instruction": f"第{i}个问题" if i % 2 else f"Question {i}", "output": "x", "score": i, "kind": "a" if i < 50 else 7} for i in range(100)]
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    drawn = {}
    for name, sampling in {"lang": {"factors": {"zh": 2, "en": 0}}, "kind": {"factors": {"7": 3}}, "score": {"temperature": 1}}.items():
        gather(file, tmp_path / name)
        found = tmp_path / name / "conversations.jsonl"
        assert sample_conversations(found, LabelSampling(label=name, **sampling), 1)["documents_in"] == 100
        drawn[name] = [json.loads(line) for line in found.read_text("utf-8").splitlines()]
    assert [record["lang"] for record in drawn["lang"]] == ["zh"] * 100
    assert len(drawn["kind"]) == 50 + 3 * 50
    assert 75 < len(drawn["score"]) < 115 and np.mean([record["labels"]["score"] for record in drawn["score"]]) > 65
    with pytest.raises(ValueError, match="no label 'kindness'"):
        sample_conversations(found, LabelSampling(label="kindness"), 1)


def test_tables_are_told_by_their_columns(tmp_path: Path) -> None:
    chat = shard(tmp_path / "chat.parquet", instruction=["a?"], output=["b"])
    gather(chat, tmp_path / "out")
    assert (tmp_path / "out" / "conversations.jsonl").is_file()
    with pytest.raises(ValueError, match=r"bare.parquet: documents have the columns id, lang, text; missing: id, lang"):
        gather(shard(tmp_path / "bare.parquet", text=["a"]), tmp_path / "bare")


def test_planned_and_read_are_drawn(plan: dict[str, Any]) -> None:
    from tasks.reporting.charts import mixture as drawn

    rows = compare(plan, as_rows(plan, {"one": {"a": 150, "b": 49}}))
    assert [row["read"] for row in rows] == [150, 49, 0, 0]
    picture = drawn(rows)
    assert picture.startswith("<svg") and "one · a" in picture and "50, read 49" in picture


def test_sampled_shards(tmp_path: Path) -> None:
    documents = [shard(tmp_path / "d0.parquet", id=["a", "b"], text=["A", "B"]), shard(tmp_path / "d1.parquet", id=["c"], text=["C"])]
    labels = [shard(tmp_path / "l.parquet", id=["c", "b", "a"], topic=["news", "spam", "book"])]
    sampling = LabelSampling(label="topic", factors={"book": 3, "spam": 0})
    assert sample_shards(documents, labels, sampling, 1, tmp_path / "out") == {"documents_in": 3, "kept": 2, "rows": 4}
    texts = [read_shard(path)["text"].to_pylist() for path in sorted((tmp_path / "out" / "documents").iterdir())]
    assert texts == [["A", "A", "A"], ["C"]]
