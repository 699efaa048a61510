"""What is written in any layout is read back as the same turns; what a layout cannot say is counted."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.instructions.convert import main
from data.instructions.formats import (
    Rejected,
    Tally,
    read_conversations,
    read_preferences,
    stream_conversations,
)
from data.instructions.lines import read_values
from data.instructions.records import Conversation, Preference, Turn
from data.instructions.writers import CONVERSATION_WRITERS, PREFERENCE_WRITERS, write

SINGLE = {"belle_pair", "text2text", "completed", "self_instruct", "lmflow_text2text"}
NO_SYSTEM = {*SINGLE, "text", "lmflow_text", "question"}


def conversation(*said: str, system: str | None = None, **labels: Any) -> Conversation:
    turns = [Turn(role="user" if i % 2 == 0 else "assistant", text=text) for i, text in enumerate(said)]
    return Conversation(id="x", system=system, turns=turns, source="s", lang="en", labels=labels)


def preference(*responses: str, said: tuple[str, ...] = ("Q?",), system: str | None = None, **labels: Any) -> Preference:
    return Preference(system=system, turns=conversation(*said).turns, responses=list(responses), labels=labels)


@pytest.mark.parametrize("name", sorted(set(CONVERSATION_WRITERS) - {"question"}))
@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("said", [("你好？\n第二行", "Hello 1. Output: x"), ("a", "b", "c", "d")])
def test_conversations_come_back(tmp_path: Path, name: str, system: str | None, said: tuple[str, ...]) -> None:
    record = conversation(*said, system=system)
    written, left_out = write(tmp_path / "x", [record], name)
    fits = (system is None or name not in NO_SYSTEM) and (len(said) == 2 or name not in SINGLE)
    assert (written, sum(left_out.values())) == ((1, 0) if fits else (0, 1))
    back = read_conversations(tmp_path / "x").records
    assert [(other.turns, other.system) for other in back] == ([(record.turns, record.system)] if fits else [])


@pytest.mark.parametrize("name", sorted(PREFERENCE_WRITERS))
@pytest.mark.parametrize("said", [("Q?",), ("a", "b", "c")])
def test_preferences_come_back_as_rankings_or_all_their_pairs(tmp_path: Path, name: str, said: tuple[str, ...]) -> None:
    write(tmp_path / "x", [preference("best", "middle", "worst", said=said)], name)
    back = read_preferences(tmp_path / "x").records
    ranking = ["best", "middle", "worst"]
    expected = [ranking] if name in ("preference", "ranked") else [list(two) for two in combinations(ranking, 2)]
    assert [record.responses for record in back] == (expected if name != "ranked" or len(said) == 1 else [])
    assert all(record.turns == conversation(*said).turns for record in back)


def test_hh_is_written_with_its_marks(tmp_path: Path) -> None:
    write(tmp_path / "x", [preference("Good.", "Bad.")], "hh")
    assert json.loads((tmp_path / "x").read_text()) == {"chosen": "\n\nHuman: Q?\n\nAssistant: Good.", "rejected": "\n\nHuman: Q?\n\nAssistant: Bad."}


def test_margins_references_and_labels_travel(tmp_path: Path) -> None:
    for name in ("pair", "hh_pair", "lmflow_pair", "preference", "ranked"):
        write(tmp_path / "x", [preference("a", "b", margin=1.5)], name)
        assert read_preferences(tmp_path / "x").records[0].labels["margin"] == 1.5
    rated = preference("a", "b", "c", "d", ratings=[5.0, 4.0, 4.0, 1.0])
    write(tmp_path / "x", [rated], "ranked")
    assert read_preferences(tmp_path / "x").records[0].labels == rated.labels
    write(tmp_path / "x", [rated], "pair")
    pairs = [(*record.responses, record.labels["margin"]) for record in read_preferences(tmp_path / "x").records]
    assert pairs == [("a", "b", 1), ("a", "c", 1), ("a", "d", 4), ("b", "d", 3), ("c", "d", 3)]  # b and c are rated alike
    write(tmp_path / "x", [conversation("2 + 2?", reference="4")], "question")
    assert read_conversations(tmp_path / "x").records[0].labels == {"reference": "4"}
    write(tmp_path / "x", [conversation("Odd?", "no", is_classification=True)], "self_instruct")
    assert read_conversations(tmp_path / "x").records[0].labels["is_classification"] is True


@pytest.mark.parametrize("text", ["What does\n\nHuman: mean?", "###Human: again", "\n\nAssistant: no"])
def test_a_text_that_holds_the_marks_is_left_out_of_a_transcript(tmp_path: Path, text: str) -> None:
    hit = {name: write(tmp_path / "x", [conversation("Q?", "ok " + text)], name)[1] for name in ("text", "lmflow_text")}
    assert {"marks_in_text": 1} in hit.values()
    for name in ("text", "lmflow_text"):
        write(tmp_path / "x", [conversation("Q?", "ok " + text)], name)
        assert all(len(record.turns) == 2 for record in read_conversations(tmp_path / "x").records)


said = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30).map(str.strip).filter(bool)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(set(CONVERSATION_WRITERS) - {"question"})), st.lists(st.tuples(said, said), min_size=1, max_size=3))
def test_whatever_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, name: str, pairs: list[tuple[str, str]]) -> None:
    record = conversation(*(text for two in pairs for text in two))
    path = tmp_path_factory.mktemp("x") / "x"
    if write(path, [record], name)[0]:
        assert [other.turns for other in read_conversations(path).records] == [record.turns]


def test_a_format_of_the_other_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'pair' is no format for a conversation; choose from conversation, messages"):
        write(tmp_path / "x", [conversation("a", "b")], "pair")
    with pytest.raises(ValueError, match="'alpacca' cannot be written"):
        write(tmp_path / "x", [], "alpacca")
    assert write(tmp_path / "x", [], "lmflow_text") == (0, {})
    assert json.loads((tmp_path / "x").read_text()) == {"type": "text_only", "instances": []}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text('{"input": "a", "target": "b"}\n{"x": 1}\n{"messages": [{"role": "user", "content": "only asks"}]}\n')
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--to", "alpaca"]) == 0
    said = capsys.readouterr()
    assert "3 values read, 1 written" in said.out and "rejected: 1 unknown_format" in said.out and "left out: 1 ends_with_user" in said.out
    assert "line 2: unknown_format" in said.err
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out"), "--to", "pair"]) == 2


# ---- big files: one value in memory at a time ----


def test_a_big_table_is_streamed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"instruction": [str(i) for i in range(200)], "output": ["x" * 80_000] * 200}), tmp_path / "big.parquet")
    tracemalloc.start()
    assert sum(1 for _ in stream_conversations(tmp_path / "big.parquet")) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # of 16 MB


@pytest.mark.parametrize("layout", ["lines", "array in one line", "lmflow"])
def test_a_big_file_is_streamed(tmp_path: Path, layout: str) -> None:
    count, answer = 400, "x" * 40_000
    values = ('{"messages": [{"role": "user", "content": "' + str(i) + '"}, {"role": "assistant", "content": "' + answer + '"}]}' for i in range(count))
    opening, between, ending = {
        "lines": ("", "\n", "\n"), "array": ("[\n ", ",\n ", "\n]\n"), "array in one line": ("[", ", ", "]"),
        "lmflow": ('{\n "type": "conversation",\n "instances": [\n  ', ",\n  ", "\n ]\n}\n"), "lmflow in one line": ('{"instances": [', ",", '], "type": "conversation"}'),
    }[layout]  # fmt: skip
    path = tmp_path / "big"
    with path.open("w") as file:
        file.write(opening)
        for number, value in enumerate(values):
            file.write((between if number else "") + value)
        file.write(ending)
    tally = Tally()
    tracemalloc.start()
    turns = sum(len(record.turns) for record in stream_conversations(path, tally) if not isinstance(record, Rejected))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 16_000_000
    assert peak < 8_000_000
    assert (turns, tally.values, tally.reasons()) == (2 * count, count, {})


def test_lines_are_told_in_long_arrays_and_broken_elements_passed(tmp_path: Path) -> None:
    values = [{"input": str(i) * 100, "target": "b" * 300, "nested": {"a": [{"b": 1}]}} for i in range(4000)]
    text = json.dumps(values, indent=1).replace('"input": "' + "2500" * 100, '"input: "' + "2500" * 100)
    (tmp_path / "x.json").write_text(text)
    found = list(read_values(tmp_path / "x.json"))
    assert sum(isinstance(item, Rejected) for item in found) == 1
    lines = text.splitlines()
    for number in (0, 1, 2499, 2500, 2501, 3999):
        assert lines[found[number].line - 1] == " {" and len(found) == 4000
    assert found[2500].line == next(i for i, line in enumerate(lines, 1) if '"input: "' in line) - 1


@pytest.mark.parametrize(
    ("text", "values", "rejected"),
    [
        ('{"type": "text_only", "instances": [{"a": 1}, {"a": 2}]}', 2, 0),
        ('{"instances": [\n{"a": 1},\n{"a": 2}\n], "type": "text_only", "n": 3}\n', 2, 0),
        ('{"type": "text_only",\n"instances": [\n{"a": 1}\n]}\n{"a": 5}\n', 1, 1),  # more than one object
        ('{"type": "text_only",\n"instances": [\n{"a": 1},\n{"a": ', 1, 1),  # cut off
        ('{"instances": [{"a": 1}]}\n{"instances": [{"a": 2}]}\n', 2, 0),  # an object a line: expanded by formats
        ("[1, 2, 30", 3, 0),
        ("[[[[", 0, 1),
    ],
)
def test_lmflow_files_whole_and_broken(tmp_path: Path, text: str, values: int, rejected: int) -> None:
    for name, content in (("x", text.encode()), ("x.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        found = list(read_values(tmp_path / name))
        assert (sum(not isinstance(item, Rejected) for item in found), sum(isinstance(item, Rejected) for item in found)) == (values, rejected)


def test_lmflow_and_sharegpt_pairs(tmp_path: Path) -> None:
    user, good, bad = ({"role": role, "content": text} for role, text in (("user", "Q?"), ("assistant", "Good."), ("assistant", "Bad.")))
    values = [
        {"chosen": {"messages": [user, good]}, "rejected": {"messages": [user, bad]}},
        {"conversations": [{"from": "human", "value": "Q?"}], "chosen": {"from": "gpt", "value": "Good."}, "rejected": {"from": "gpt", "value": "Bad."}},
    ]
    (tmp_path / "x").write_text("\n".join(map(json.dumps, values)))
    reading = read_preferences(tmp_path / "x")
    assert [(record.turns[0].text, record.responses) for record in reading.records] == [("Q?", ["Good.", "Bad."])] * 2
