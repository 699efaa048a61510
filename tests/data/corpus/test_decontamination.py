from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from data.corpus.decontamination import contamination_labels, questions_of, write_index
from data.corpus.rules import RuleBook
from data.settings import DecontaminationSettings, SelectionSettings
from tests.data.corpus.helpers import SAMPLES, documents

LONG = "if a train leaves the station at nine and travels north at sixty miles an hour when does it arrive"  # 20 words: 8 13-grams
SHORT = "Which of these four birds can swim under water?"  # 9 words
ZH = "小明有三个苹果，他给了小红一个以后又买了五个，现在小明一共有几个苹果？"  # 31 characters of text: 12 20-grams


def _count(tmp_path: Path, questions: list[str], *texts: str, **settings: int) -> list[int]:
    config = DecontaminationSettings(**settings)  # type: ignore[arg-type]
    path = tmp_path / f"{abs(hash((tuple(questions), tuple(settings.items()))))}.npz"
    write_index(questions, path, config)
    return contamination_labels(documents(*texts), config, index=path)["contaminated_ngrams"].to_pylist()


def test_overlaps_by_hand(tmp_path: Path) -> None:
    words = LONG.split()
    texts = [
        "Once more: " + LONG.upper() + "!", "x " + " ".join(words[2:15]) + " y", "x " + " ".join(words[2:14]) + " y", "",
        "Quiz. Which of these four birds can swim under\n  water? The penguin.", "these four birds can swim under water", "a penguin can swim",
        LONG + ". " + LONG,
    ]  # fmt: skip
    assert _count(tmp_path, [LONG, SHORT], *texts) == [8, 1, 0, 0, 1, 0, 0, 8]


def test_one_overlap_is_a_drop_by_default() -> None:
    rule = next(rule for rule in SelectionSettings().rules if rule.reason == "contaminated")
    book = RuleBook([rule])
    book.add(pa.table({"id": ["a", "b"], "contaminated_ngrams": [0, 1]}))
    assert [book.decide().verdict(row) for row in range(2)] == [None, ("contaminated", "1")]


def test_chinese_by_characters(tmp_path: Path) -> None:
    letters = "".join(c for c in ZH if c.isalpha())
    texts = ["问题：" + ZH + "答案是七个。", letters[3:23], letters[3:22], "小明有三个苹果。", "她说：今天的天气怎么样你知道吗真的吗，我不知道。"]
    assert _count(tmp_path, [ZH, "今天的天气怎么样你知道吗真的吗"], *texts) == [len(letters) - 19, 1, 0, 0, 1]


def test_what_anybody_may_have_asked_is_no_contamination(tmp_path: Path) -> None:
    assert _count(tmp_path, ["What is the capital of France?"], "What is the capital of France? It is Paris.") == [0]
    assert _count(tmp_path, ["What is the capital of France?"], "What is the capital of France? It is Paris.", whole_words=6) == [1]
    assert _count(tmp_path, [], "anything") == [0]


def test_questions_of_rows_lists_and_turns(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "five"}, {"from": "gpt", "value": "fact"}]
    turns = [{"role": "user", "text": "two"}, {"role": "assistant", "text": "fact"}]
    rows = [{"prompt": "one", "answer": "fact"}, {"turns": turns}, {"question": ["three", "four"]}, {"conversations": talk}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.jsonl").write_text('{"answer": "fact"}')
    assert questions_of([tmp_path / "a.jsonl"], DecontaminationSettings()) == ["one", "two", "three", "four", "five"]
    with pytest.raises(ValueError, match=r"b\.jsonl: no row has text .* set decontamination\.fields"):
        questions_of([tmp_path / "b.jsonl"], DecontaminationSettings())


def test_evaluation_sets_as_they_are_published(tmp_path: Path) -> None:
    """CSV with a header (C-Eval), without one (MMLU, whose choices may be words that others name columns by), and folders of these."""
    config = DecontaminationSettings()
    assert "What is the name of the river in Cindervale?" in questions_of([SAMPLES / "valley_en"], config)
    assert any("你知道哪条河流过炉谷镇吗？" in question for question in questions_of([SAMPLES / "valley_zh"], config))
    for content, expected in (
        ('"Which, of these,\nis first?",id,ego,text,question,A\nSecond?,1,2,3,4,B\n', ["Which, of these,\nis first?", "Second?"]),
        ("\ufeffid,question,A,B,C,D\n0,谁？,甲,乙,丙,丁\n\n", ["谁？"]),
        ("prompt,other\nOne?,x,too many\nTwo?\n", ["One?", "Two?"]),
    ):
        (tmp_path / "a.csv").write_text(content, encoding="utf-8")
        assert questions_of([tmp_path / "a.csv"], config) == expected
    (tmp_path / "a.csv").write_text("topic,body\nx,y\n")
    with pytest.raises(ValueError, match=r"a\.csv: no row has text in one of the fields"):
        questions_of([tmp_path / "a.csv"], config)
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000)
    with pytest.raises(ValueError, match=r"a\.csv: not CSV: field larger"):
        questions_of([tmp_path / "a.csv"], config)
