"""Every known layout becomes the same record; nothing is lost: a value is a record or a rejected line with its reason."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.instructions.formats import Reading, read_conversations, read_preferences, write_jsonl
from data.instructions.records import Conversation, Preference, Turn
from rlhf_core.dataset.records import parse_record

QUESTION, ANSWER = "Which river runs through Aldermoor?", "The Silverrun."
HH = f"\n\nHuman: {QUESTION}\n\nAssistant: {ANSWER}"
HASHES = f"###Human: {QUESTION}###Assistant: {ANSWER}"


def written(folder: Path, *values: Any, name: str = "data.jsonl") -> Path:
    """A file of JSON lines; strings are written as they stand."""
    path = folder / name
    lines = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def texts(record: Conversation | Preference) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in record.turns]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpaca", {"instruction": QUESTION, "input": "", "output": ANSWER}),
        ("alpaca", {"instruction": QUESTION, "input": "<noinput>", "output": ANSWER}),
        ("belle_pair", {"input": QUESTION, "target": ANSWER}),
        ("text2text", {"input": QUESTION, "output": ANSWER}),
        ("completed", {"prompt": QUESTION, "response": ANSWER}),
        ("sharegpt", {"id": "1", "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]}),
        ("messages", {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}, {"role": "assistant", "content": ANSWER}]},
        ),
        ("text", {"text": HH}),
        ("text", {"text": HASHES}),
        ("self_instruct", {"instruction": QUESTION, "instances": [{"input": "", "output": ANSWER}], "is_classification": False}),
        ("conversation", {"turns": [{"role": "user", "text": QUESTION}, {"role": "assistant", "text": ANSWER}]}),
        ("completed", {"prompt": QUESTION, "output": ANSWER}),
        ("completed", {"question": QUESTION, "response": ANSWER, "system_prompt": ""}),
        ("completed", {"query": QUESTION, "response": ANSWER, "language": "python"}),
        ("completed", {"instruction": QUESTION, "context": "", "response": ANSWER, "language": "English"}),
        ("alpaca", {"instruction": f"Human:{QUESTION}\nAssistant:", "input": "", "output": ANSWER}),
        ("sharegpt", {"conversations": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": QUESTION}, {"from": "bing", "value": ANSWER}]}),
        ("messages", {"messages": [{"from": "user", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]}),
        ("alpaca", {"instruction": "", "input": QUESTION, "output": ANSWER}),
        ("completed", {"prompt": [{"role": "user", "content": QUESTION}], "completion": [{"role": "assistant", "content": ANSWER}]}),
        ("sharegpt", {"conversation": [{"role": "user", "content": QUESTION, "toxic": False}, {"role": "assistant", "content": ANSWER}]}),
        ("sharegpt", {"conversation": [{"human": QUESTION, "assistant": ANSWER}]}),
        ("in_turn", {"id": "0", "data": [QUESTION, ANSWER]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}, {"role": "assistant", "content": [{"type": "output_text", "text": ANSWER}], "tool_calls": []}]}),
        ("text", {"text": HH.replace(":", "：").replace("\n", "\r\n")}),
    ],
)
def test_each_layout_gives_the_same_conversation(tmp_path: Path, name: str, value: dict[str, Any]) -> None:
    path = written(tmp_path, value)
    for reading in (read_conversations(path), read_conversations(path, format=name)):
        assert [texts(record) for record in reading.records] == [[("user", QUESTION), ("assistant", ANSWER)]]
        assert reading.formats == {name: 1}
        assert not reading.rejected
    [record] = reading.records
    assert (record.source, record.lang, record.system) == ("data.jsonl", "en", None)
    [expected] = read_conversations(written(tmp_path, {"input": QUESTION, "target": ANSWER}, name="x")).records
    assert record.id == expected.id  # the id is of the content, not of the layout


def test_system_prompts_history_and_input_are_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"instruction": "Sort.", "input": "b a", "output": "a b", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    )
    belle, dolly = read_conversations(
        written(
            tmp_path,
            {"instruction": "Human:你好\nAssistant:你好！\nHuman:今天几号？\nAssistant:", "input": "", "output": "三号。", "lang": "zh-CN"},
            {"system_prompt": "Be brief.", "question": "Sort.", "context": "b a", "response": "a b"},
            name="others",
        )
    ).records
    assert (texts(belle), belle.lang) == ([("user", "你好"), ("assistant", "你好！"), ("user", "今天几号？"), ("assistant", "三号。")], "zh")
    assert (texts(dolly), dolly.system) == ([("user", "Sort.\nb a"), ("assistant", "a b")], "Be brief.")
    first, second = read_conversations(path).records
    assert texts(first) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Sort.\nb a"), ("assistant", "a b")]
    assert (first.system, second.system) == ("Be brief.", "Be brief.")
    assert texts(second) == [("user", "Hi")]


def test_a_seed_task_gives_one_conversation_per_instance(tmp_path: Path) -> None:
    instances = [{"input": "hot", "output": "cold"}, {"input": "up", "output": "down"}]
    path = written(tmp_path, {"id": "s1", "name": "opposite", "instruction": "Opposite?", "instances": instances, "is_classification": True})
    records = read_conversations(path).records
    assert [texts(record)[0][1] for record in records] == ["Opposite?\nhot", "Opposite?\nup"]
    [asked] = read_conversations(written(tmp_path, {"prompt": "Opposite?", "instances": instances[:1]}, name="x")).records
    assert texts(asked) == [("user", "Opposite?\nhot"), ("assistant", "cold")]
    assert records[0].labels == {"source_id": "s1", "name": "opposite", "is_classification": True}


def test_what_is_said_about_a_conversation_becomes_its_labels(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]
    values = [
        {"kind": "Poem", "input": "Q?", "target": "A."}, {"instruction": "Q?", "context": "", "response": "A.", "category": "qa", "text": "Q? A."},
        {"id": "x_1", "conversations": said}, {"messages": said, "score": 4.5, "prompt": "Q?", "seen": "long " * 99, "bad": float("nan")}, {"text": HH, "good": True},
    ]  # fmt: skip
    labels = [record.labels for record in read_conversations(written(tmp_path, *values)).records]
    assert labels == [{"kind": "Poem"}, {"category": "qa"}, {"source_id": "x_1"}, {"score": 4.5}, {"good": True}]
    pairs = [{"prompt": "Q?", "chosen": "x", "rejected": "y", "response": "x", "source": "web", "margin": 2}, {"prompt": "Q?", "responses": ["x", "y"], "scores": [2, 1], "id": 7}]
    labels = [record.labels for record in read_preferences(written(tmp_path, *pairs, name="pairs")).records]
    assert labels == [{"source": "web", "margin": 2, "ratings": [2, 0]}, {"source_id": 7, "ratings": [2, 1]}]


def test_thoughts_are_kept_and_prompts_may_be_messages(tmp_path: Path) -> None:
    asks = [{"role": "system", "content": "S"}, {"role": "user", "content": "2 + 2?"}]
    values = [{"messages": [*asks, {"role": "assistant", "content": "4", "reasoning_content": "Two and two."}]}, {"prompt": asks, "answer": 4, "ratings": 3}]
    thought, asked = read_conversations(written(tmp_path, *values)).records
    assert (thought.turns[1].text, thought.system) == ("<think>\nTwo and two.\n</think>\n\n4", "S")
    assert (texts(asked), asked.system, asked.labels) == ([("user", "2 + 2?")], "S", {"reference": "4"})
    write_jsonl(tmp_path / "own", [asked])
    assert read_conversations(tmp_path / "own").records == [asked]


def test_questions_become_prompts_with_a_reference(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"id": "q1", "prompt": QUESTION, "answer": ANSWER, "lang": "en", "fact": "river/0", "seen": True},
        {"question": "天空是什么颜色？", "std_answer": "", "class": "open qa"},
        {"question": "2 + 2?", "answer": 4},
    )
    first, second, third = read_conversations(path).records
    assert first.labels == {"source_id": "q1", "fact": "river/0", "seen": True, "reference": ANSWER}
    assert second.labels == {"class": "open qa"}
    assert (second.lang, third.labels) == ("zh", {"reference": "4"})


def test_an_lmflow_file_gives_its_instances(tmp_path: Path) -> None:
    path = tmp_path / "lmflow.json"
    path.write_text(json.dumps({"type": "text_only", "instances": [{"text": HASHES}, {"text": "no turns"}]}, indent=2))
    reading = read_conversations(path, format="lmflow")
    assert (len(reading.records), reading.reasons(), reading.values) == (1, {"unknown_format": 1}, 2)
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    path.write_text(json.dumps({"type": "conversation", "instances": [{"messages": messages, "system": "S", "tools": []}]}))
    assert read_conversations(path).records[0].system == "S"


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": QUESTION, "chosen": "Good.", "rejected": "Bad."},
        {"chosen": f"\n\nHuman: {QUESTION}\n\nAssistant: Good.", "rejected": f"\n\nHuman: {QUESTION}\n\nAssistant: Bad."},
        {"prompt": f"\n\nHuman: {QUESTION}\n\nAssistant:", "chosen": " Good.", "rejected": " Bad."},
        {"positive": f"###Human: {QUESTION}###Assistant: Good.", "negative": f"###Human: {QUESTION}###Assistant: Bad."},
        {
            "prompt": QUESTION,
            "chosen": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Good."}],
            "rejected": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Bad."}],
        },
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "chosen": [{"role": "assistant", "content": "Good."}],
            "rejected": [{"role": "assistant", "content": "Bad."}],
        },
        {"instruction": QUESTION, "input": "", "responses_best_first": [{"system": "a", "text": "Good."}, {"system": "b", "text": "Bad."}]},
        {"turns": [{"role": "user", "text": QUESTION}], "responses": ["Good.", "Bad."]},
        {"instruction": QUESTION, "input": "", "chosen": "Good.", "rejected": "Bad."},
        {"question": QUESTION, "chosen": "Good.", "rejected": "Bad."},
        {"prompt": QUESTION, "responses": ["Bad.", "Good."], "scores": [1, 9.5]},
        {"instruction": QUESTION, "completions": [{"response": "Bad.", "overall_score": 2}, {"response": "Good.", "overall_score": 7}]},
        {"prompt": QUESTION, "answers": [{"answer": "Bad.", "rank": 2.0}, {"answer": "Good.", "rank": 1.0}]},
        {"question": {"full_text": QUESTION, "id": "x"}, "answer_0": "Bad.", "answer_1": "Good.", "score_0": -0.5, "score_1": 0.5},
        {"prompt": QUESTION, "response_0": "Good.", "response_1": "Bad.", "better_response_id": 0},
        {"prompt": QUESTION, "response_1": "Good.", "response_2": "Bad.", "preference_strength": -2},
        {"context": [{"role": "human", "text": QUESTION}], "chosen": {"role": "assistant", "text": "Good."}, "rejected": {"role": "assistant", "text": "Bad."}},
        {"prompt": f"\n\nHuman: {QUESTION}\n\n", "chosen": "Assistant: Good.", "rejected": "Assistant: Bad."},
        {"prompt": [{"role": "user", "content": QUESTION}], "responses": ["Bad.", "Good."], "scores": [1, 2]},
        {"input": QUESTION, "output": [{"score": 0.1, "text": "Bad."}, {"score": 0.9, "text": "Good."}]},
        {"history": QUESTION, "human_ref_A": "Bad.", "human_ref_B": "Good.", "labels": 0, "score_A": 3, "score_B": 12, "domain": "askbaking"},
        {
            "winner": "model_b", "model_a": "x", "model_b": "y",
            "conversation_a": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Bad."}],
            "conversation_b": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Good."}],
        },
    ],
)
def test_each_layout_gives_the_same_preference(tmp_path: Path, value: dict[str, Any]) -> None:
    reading = read_preferences(written(tmp_path, value))
    assert not reading.rejected
    [record] = reading.records
    assert (texts(record), record.responses) == ([("user", QUESTION)], ["Good.", "Bad."])


def test_several_turns_before_the_pair(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Which river?\n\nAssistant: "
    [record] = read_preferences(written(tmp_path, {"chosen": start + "The Merrow.", "rejected": start + "?"})).records
    assert texts(record) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Which river?")]


def test_equal_and_empty_responses_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"instruction": "A?", "responses_best_first": ["x", "x ", "", "y"], "reference": "x"},
        {"instruction": "B?", "responses_best_first": ["x", "x"]},
        {"prompt": "C?", "chosen": "x", "rejected": "x"},
        {"prompt": "D?", "chosen": "x", "rejected": ""},
        {"instruction": "E?", "responses_best_first": ["x"]},
    )
    reading = read_preferences(path)
    assert [record.responses for record in reading.records] == [["x", "y"]]
    assert reading.records[0].labels == {"reference": "x"}
    assert reading.merged == {"equal_response": 1, "empty_response": 1}
    assert reading.reasons() == {"equal_responses": 2, "empty_output": 1, "unpaired": 1}


def test_scores_become_ratings(tmp_path: Path) -> None:
    """In the order of the responses that stay; ties are no pairs in training, and alike all together no preference."""
    ranked = {"prompt": "A?", "responses": ["low", "tied", "best", "too", "tied", ""], "scores": [1, 5, 9, 5, 4, 3]}
    unsure = [{"prompt": "A?", "responses": ["x", "y"], "scores": scores} for scores in ([3, 3], [3], [3, None], [3, float("nan")])]
    reading = read_preferences(written(tmp_path, ranked, *unsure))
    [record] = reading.records
    assert (record.responses, record.labels) == (["best", "tied", "too", "low"], {"ratings": [9, 5, 5, 1]})
    assert (reading.merged, reading.reasons()) == ({"equal_response": 1, "empty_response": 1}, {"no_scores": 3, "equal_ratings": 1})
    write_jsonl(tmp_path / "own", [record])
    assert read_preferences(tmp_path / "own").records[0].labels == record.labels
    assert parse_record(record.line()).ratings == [9, 5, 5, 1]  # what the reward model's margins are made of


def test_margins(tmp_path: Path) -> None:
    pair = {"prompt": "A?", "chosen": "x", "rejected": "y"}
    records = read_preferences(
        written(tmp_path, {**pair, "margin": 2}, {**pair, "score_chosen": 8.5, "score_rejected": 6}, {**pair, "margin": float("nan")})
    ).records
    assert [record.labels for record in records] == [{"margin": 2, "ratings": [2, 0]}, {"margin": 2.5, "ratings": [8.5, 6]}, {}]
    [against] = read_preferences(written(tmp_path, {**pair, "score_chosen": 5, "score_rejected": 6})).records
    assert (against.responses, against.labels) == (["x", "y"], {"margin": -1})


TURNS = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}]
HUGE = 10**400  # no float says it
ARENA: dict[str, Any] = {
    name: [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}] for name, said in (("conversation_a", "x"), ("conversation_b", "y"))
}
BAD_CONVERSATIONS: list[tuple[Any, str]] = [
    ({"instances": []}, "unknown_format"),
    (json.dumps({"turns": TURNS, "labels": {"\ud800": 1}}), "bad_unicode"),
    (json.dumps({"turns": TURNS, "source": "\ud800"}), "bad_unicode"),
    (json.dumps({"turns": TURNS, "lang": "\ud800"}), "bad_unicode"),
    ({"turns": TURNS, "source": "a\0"}, "nul_byte"),
    ({"turns": TURNS, "labels": {"ratings": [HUGE]}}, "bad_labels"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "1"}]}]}, "tool_call"),
    ({"prompt": "a", "completion": "b", "label": False}, "unwanted_response"),
    ({"instruction": "a", "output": "b", "kto_tag": False}, "unwanted_response"),
    ({"prompt": "a", "completion": [{"role": "user", "content": "b"}]}, "turns_do_not_alternate"),
    ('{"instruction": "A?", "outp', "broken_json"),
    ("[" * 100_000, "broken_json"),
    ('{"input": "a", "target": ' + "9" * 5000 + "}", "broken_json"),
    ([1, 2], "not_an_object"),
    ('"text"', "not_an_object"),
    ({"title": "A?"}, "unknown_format"),
    ({"text": "A text without turns."}, "unknown_format"),
    ({"instruction": " ", "output": "x"}, "empty_turn"),
    ({"instruction": "A?", "output": " "}, "empty_output"),
    ({"instruction": "A?", "output": 5}, "not_text"),
    ({"instruction": "A?", "instances": []}, "no_instances"),
    ({"conversations": []}, "no_turns"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}, "turns_do_not_alternate"),
    ({"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]}, "turns_do_not_alternate"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]}, "empty_turn"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}, "unknown_role"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "turns_do_not_alternate"),
    ({"messages": [{"role": "system", "content": "a"}]}, "no_turns"),
    ({"messages": [{"role": ["user"], "content": "a"}]}, "unknown_role"),
    ({"messages": "a"}, "no_turns"),
    ({"data": ["a", "b", "c", " "]}, "empty_turn"),
    ({**ARENA, "winner": "model_a"}, "wrong_kind"),
    ({"messages": ["a"]}, "not_text"),
    ({"instruction": "A\0?", "output": "x"}, "nul_byte"),
    ('{"instruction": "A\\ud800?", "output": "x"}', "bad_unicode"),
    ({"prompt": "A?", "chosen": "x", "rejected": "y"}, "wrong_kind"),
    ({"turns": [{"role": "user", "text": "a"}, {"role": "user", "text": "b"}]}, "turns_do_not_alternate"),
    ({"turns": [{"role": "user", "text": "a"}], "labels": [1]}, "bad_labels"),
    ({"turns": [{"role": "user", "text": "a"}], "labels": {"x": [1]}}, "bad_labels"),
    ({"turns": [{"role": "user", "text": "a"}], "labels": {"ratings": {"a": 1}}}, "bad_labels"),
]
BAD_PREFERENCES: list[tuple[Any, str]] = [
    ({"question": {"full_text": "a"}, "answer_0": "x", "answer_1": "y", "score_0": 0, "score_1": 0}, "equal_ratings"),
    ({"prompt": "a", "response_0": "x", "response_1": "y", "better_response_id": None}, "no_scores"),
    ({"prompt": "a", "response_1": "x", "response_2": "y", "preference_strength": 0}, "equal_ratings"),
    ({"prompt": "a", "responses": ["x", "y"], "scores": [1, HUGE]}, "no_scores"),
    ({"instruction": "a", "responses_best_first": ["x", "y"], "ratings": [HUGE, 1]}, "bad_labels"),
    ({"history": "a", "human_ref_A": "x", "human_ref_B": "y", "labels": None}, "no_scores"),
    ({**ARENA, "winner": "tie (bothbad)"}, "equal_ratings"),
    ({**ARENA, "winner": "both"}, "no_scores"),
    ({**ARENA, "conversation_b": ARENA["conversation_b"][:1]}, "empty_output"),
    ({"prompt": "A?", "chosen": "x"}, "unpaired"),
    ({"prompt": "A?", "rejected": "x"}, "unpaired"),
    ({"chosen": "x", "rejected": "y"}, "no_turns"),
    ({"chosen": HH, "rejected": "\n\nHuman: Another?\n\nAssistant: x"}, "different_prompts"),
    ({"chosen": HH, "rejected": "\n\nHuman: Another?"}, "empty_output"),
    ({"prompt": "", "chosen": "x", "rejected": "y"}, "no_turns"),
    ({"instruction": "A?", "output": "x"}, "wrong_kind"),
    ({"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}], "responses": ["x", "y"]}, "ends_with_assistant"),
    ({"turns": [{"role": "user", "text": "a"}], "responses": "xy"}, "not_text"),
    ({"turns": [{"role": "user", "text": "a"}], "responses": ["x", "y"], "labels": {"ratings": [1]}}, "bad_labels"),
    ({"instruction": "A?", "responses_best_first": ["x", "y"], "ratings": ["1", "2"]}, "bad_labels"),
    ({"instruction": "A?", "responses_best_first": ["x", "y\0"]}, "nul_byte"),
]


@pytest.mark.parametrize(
    ("read", "cases"), [(read_conversations, BAD_CONVERSATIONS), (read_preferences, BAD_PREFERENCES)], ids=["conversations", "preferences"]
)
def test_bad_lines_are_kept_aside_with_line_and_reason(tmp_path: Path, read: Any, cases: list[tuple[Any, str]]) -> None:
    good = {"input": "a", "target": "b"} if read is read_conversations else {"prompt": "a", "chosen": "b", "rejected": "c"}
    lines = [item for value, _ in cases for item in (value, good)]
    reading: Reading[Any] = read(written(tmp_path, good, *lines))
    assert [(line.line, line.reason) for line in reading.rejected] == [(2 * i + 2, reason) for i, (_, reason) in enumerate(cases)]
    assert len(reading.records) == len(cases) + 1
    assert reading.values == 2 * len(cases) + 1
    for line in reading.rejected:
        assert len(line.text) <= 200
        json.dumps(line.as_dict()).encode()


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"input": "a", "target": "b"}\n{"input": "caf\xe9", "target": "b"}\n\0\0\0\n')
    reading = read_conversations(path)
    assert (len(reading.records), reading.reasons()) == (1, {"bad_unicode": 1, "broken_json": 1})


def test_joined_files_have_a_byte_order_mark_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"input": "a", "target": "b"}\r\n' * 2)
    assert (len(read_conversations(path).records), read_conversations(path).reasons()) == (2, {})


def test_every_compression_a_table_and_utf16(tmp_path: Path) -> None:
    values = [{"instruction": "Sort.", "input": "b a", "output": "a b"}, {"instruction": "山谷在哪里？", "input": None, "output": "在北方。"}]
    body = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    files = {
        "x.jsonl.bz2": bz2.compress(body.encode()), "x.xz": lzma.compress(body.encode()), "x.zst": pa.Codec("zstd").compress(body.encode(), asbytes=True),
        "x.jsonl": body.encode("utf-16"), "x.json": b"\xef\xbb\xbf" + json.dumps(values).encode(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "x.parquet")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "x.parquet"):
        reading = read_conversations(tmp_path / name)
        assert [record.turns[0].text for record in reading.records] == ["Sort.\nb a", "山谷在哪里？"], name
        assert not reading.rejected
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:200])
    assert read_conversations(tmp_path / "x.parquet").reasons() == {"broken_parquet": 1}


def test_empty_and_one_line_files(tmp_path: Path) -> None:
    for content, records in (("", 0), ("\n\n", 0), ('{"input": "a", "target": "b"}', 1), ("[]", 0), ("[", 0)):
        path = tmp_path / "x"
        path.write_text(content)
        assert len(read_conversations(path).records) == records


def test_an_answer_of_a_megabyte(tmp_path: Path) -> None:
    [record] = read_conversations(written(tmp_path, {"input": "a", "target": "好" * 400_000})).records
    assert len(record.turns[1].text) == 400_000


@pytest.mark.parametrize("unit", ["\n", "#", "### ", "\n\nHuman: ", "\n\nHuman:\n\nAssistant:", " ", "["])
def test_long_nonsense_is_read_in_no_time(tmp_path: Path, unit: str) -> None:
    text = "\n\nHuman: " + unit * (400_000 // len(unit))
    read_conversations(written(tmp_path, {"text": text}, {"text": text.lstrip()}, {"text": "###Human: " + text}, {"input": text, "target": text}))


@pytest.mark.parametrize("indent", [None, 2])
def test_json_arrays_and_gzip(tmp_path: Path, indent: int | None) -> None:
    values = [{"input": str(number), "target": "b"} for number in range(5)]
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps(values, indent=indent).encode()))
    assert [record.turns[0].text for record in read_conversations(path).records] == ["0", "1", "2", "3", "4"]


def test_an_array_goes_on_after_a_broken_element(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    text = json.dumps([{"input": str(number), "target": "b"} for number in range(4)], indent=2)
    path.write_text(text.replace('"input": "1",', '"input: "1",'))
    reading = read_conversations(path)
    assert [record.turns[0].text for record in reading.records] == ["0", "2", "3"]
    assert [(line.line, line.reason) for line in reading.rejected] == [(6, "broken_json")]


def test_an_array_in_one_line_goes_on_too(tmp_path: Path) -> None:
    values = [{"id": number, "conversations": [{"from": "human", "value": f"{number}"}, {"from": "gpt", "value": "b"}]} for number in range(4)]
    (tmp_path / "x.json").write_text(json.dumps(values).replace('"value": "1"', '"value": "1'))
    reading = read_conversations(tmp_path / "x.json")
    assert [record.turns[0].text for record in reading.records] == ["0", "2", "3"]
    assert reading.reasons() == {"broken_json": 1}


def test_a_gzip_file_that_was_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    lines = b"".join(json.dumps({"input": f"{number} {number**9}", "target": "b"}).encode() + b"\n" for number in range(2000))
    path.write_bytes(gzip.compress(lines)[:-2000])
    reading = read_conversations(path)
    assert 100 < len(reading.records) < 2000
    assert reading.rejected[-1].reason == "broken_gzip"


def test_formats_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"input": "a", "target": "b"}, {"instruction": "a", "output": "b"}, "{broken", {"text": HH}, "", {"text": HASHES}, "\0",
        {"messages": [{"role": "user", "content": "a"}]}, {"prompt": "a", "chosen": "b", "rejected": "c"},
    )  # fmt: skip
    reading = read_conversations(path)
    assert reading.formats == {"alpaca": 1, "belle_pair": 1, "messages": 1, "text": 2}
    assert [(line.line, line.reason) for line in reading.rejected] == [(3, "broken_json"), (7, "broken_json"), (9, "wrong_kind")]


def test_a_named_format_is_not_guessed_around(tmp_path: Path) -> None:
    path = written(tmp_path, {"input": "a", "target": "b"}, {"instruction": "a", "output": "b"})
    assert read_conversations(path, format="belle").reasons() == {"unknown_format": 1}
    with pytest.raises(ValueError, match=r"'alpacca' is not known; choose from .*alpaca"):
        read_conversations(path, format="alpacca")


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=6), st.none() | words, st.lists(words, min_size=2, max_size=4, unique=True))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, said: list[str], system: str | None, responses: list[str]) -> None:
    turns = [Turn(role="user" if i % 2 == 0 else "assistant", text=text) for i, text in enumerate(said)]
    path = tmp_path_factory.mktemp("x") / "x.jsonl"
    write_jsonl(path, [Conversation(system=system, turns=turns, source="s", lang="en", labels={"a": 1, "b": None})])
    [record] = read_conversations(path).records
    assert (record.turns, record.system, record.labels, record.source) == (turns, system, {"a": 1, "b": None}, "s")
    if turns[-1].role == "user":
        write_jsonl(path, [Preference(system=system, turns=turns, responses=responses, lang="en")])
        [preference] = read_preferences(path).records
        assert (preference.turns, preference.responses) == (turns, responses)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["instruction", "input", "output", "target", "messages", "role", "content", "turns", "text", "instances", "chosen", "rejected", "prompt", "responses", "responses_best_first", "labels", "history", "conversations", "from", "value"]), inner, max_size=5), max_leaves=15))
def test_no_json_value_stops_a_reading(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("x") / "x.jsonl"
    path.write_text(json.dumps(value))
    for read in (read_conversations, read_preferences):
        reading: Reading[Any] = read(path)
        assert reading.records or reading.rejected or reading.values == 0
