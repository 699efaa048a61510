"""The second step: tasks that came without instances get them, classification tasks by their label first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.instructions.instances import (
    Instance,
    classification_prompt,
    instance_prompt,
    parse_classification,
    parse_instances,
    sound,
)
from data.instructions.prompts import Task
from data.instructions.self_instruct import run
from data.instructions.settings import SelfInstructSettings
from data.instructions.teacher import Completion, Exhausted, Prompt, Usage
from tests.data.instructions.test_self_instruct import SEEDS, block, lines

MOOD = Task("Happy or sad?", "It rains.", "sad", "en", True)
NAME = Task("Name a river.", "", "The Merrow.", "en", False)


class Answering:
    """A teacher that answers each kind of prompt in its own form. A list of one task takes three calls."""

    def __init__(self, listed: list[str], kinds: str = "", instances: str = "", last: int = 10**9) -> None:
        self.listed, self.kinds, self.instances, self.last = listed, kinds, instances, last
        self.prompts: dict[int, Prompt] = {}

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= self.last:
            raise OSError("killed")
        self.prompts[prompt.call] = prompt
        if prompt.text.startswith("You write training tasks"):
            if prompt.call % 3 or prompt.call // 3 >= len(self.listed):
                raise Exhausted
            text = self.listed[prompt.call // 3]
        else:
            text = self.kinds if prompt.text.startswith("Is each of these") else self.instances
        return Completion(text, "stop", Usage(100, 10))


def settings(**more: Any) -> SelfInstructSettings:
    return SelfInstructSettings(**{"languages": ["en"], "teacher_concurrency": 1, **more})


OPEN = "Example 1\nInput: oak\nOutput: A tall tree.\n###\nInput: moss\nOutput: moss\n###\nInput: OAK\nOutput: a tall tree\n###\nInput: fern\nOutput:\n###\n"


def test_missing_instances_are_asked_for_in_a_second_step(tmp_path: Path) -> None:
    listed = block(4, "Describe a mill in two words.", "Old, quiet.") + "5. Instruction: Explain the given plant to a child.\nInput: oak\n###\n"
    teacher = Answering([listed], "1. no", OPEN)
    summary = run(SEEDS, teacher, settings(instances="missing"), tmp_path / "out", tmp_path / "work")
    assert (summary["items"], summary["accepted"], summary["instances"], summary["teacher_calls"]) == (2, 2, 2, 3)
    assert summary["instances_rejected"] == {"duplicate": 1, "empty_output": 1, "output_equals_input": 1}
    first, second = [record for record in lines(tmp_path / "out" / "conversations.jsonl") if record["source"] == "self_instruct"]
    assert [turn["text"] for turn in first["turns"]] == ["Describe a mill in two words.", "Old, quiet."]
    assert [turn["text"] for turn in second["turns"]] == ["Explain the given plant to a child.\noak", "A tall tree."]
    assert second["labels"] == {"call": 0, "item": 1, "instance": 0, "is_classification": False}
    assert "Task: Explain the given plant to a child.\n" in teacher.prompts[2].text
    # without the second step the same completion has one reject, and one call is enough
    plain = run(SEEDS, Answering([listed]), settings(), tmp_path / "plain", tmp_path / "work2")
    assert (plain["rejected"], plain["teacher_calls"]) == ({"no_output": 1}, 1)


def test_classification_tasks_are_asked_for_their_labels_first(tmp_path: Path) -> None:
    listed = "4. Instruction: Say whether the dish is sweet or salty.\n###\n5. Instruction: Describe the given town in one word.\n###\n6. Instruction: Describe the given town in one single word.\n###\n"
    answers = "Class label: sweet\nInput: honey cake\n###\nClass label: salty\nInput: smoked eel\n###\nLabel: salty\nInput: honey cake\n###\n"
    teacher = Answering([listed], "1. yes\n2. no", answers)
    summary = run(SEEDS, teacher, settings(instances="apart"), tmp_path / "out", tmp_path / "work")
    assert "Write neither inputs nor answers." in teacher.prompts[0].text and "Output: " not in teacher.prompts[0].text
    assert "1. Say whether the dish is sweet or salty.\n2. Describe the given town" in teacher.prompts[1].text
    assert "Task: Decide whether the given name is a town or a river.\nyes\n" in teacher.prompts[1].text
    assert "Class label: river\nInput: Merrow\n" in teacher.prompts[2].text  # a seed task, label first
    assert "Class label" not in teacher.prompts[3].text
    made = [record for record in lines(tmp_path / "out" / "conversations.jsonl") if record["source"] == "self_instruct"]
    # honey cake has two labels, so neither is kept; of the open task nothing could be read; the third is no new task
    assert [(record["turns"][0]["text"].split("\n")[1], record["turns"][1]["text"]) for record in made] == [("smoked eel", "salty")]
    assert made[0]["labels"]["is_classification"] is True
    assert (summary["accepted"], summary["instances"], summary["rejected"]) == (1, 1, {"no_instance": 1, "not_novel": 1})
    assert summary["instances_rejected"] == {"conflicting_output": 2}
    assert (summary["teacher_tokens_in"], summary["teacher_tokens_out"]) == (400, 40)


@pytest.mark.parametrize("last", range(1, 8))
def test_a_run_killed_between_its_steps_goes_on(tmp_path: Path, last: int) -> None:
    listed = ["4. Instruction: Explain the given plant to a child.\n###\n", "4. Instruction: Compare two rivers of your choice.\n###\n"]

    def go(out: str, work: str, last: int = 10**9) -> Answering:
        teacher = Answering(listed, "1. no", OPEN, last)
        run(SEEDS, teacher, settings(instances="apart", price_prompt=2, price_completion=10), tmp_path / out, tmp_path / work)
        return teacher

    go("whole", "w")
    if last < 7:  # call 6 finds the teacher exhausted
        with pytest.raises(OSError, match="killed"):
            go("out", "work", last)
    go("out", "work")
    for name in ("conversations.jsonl", "rejected.jsonl", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["teacher_calls"], summary["teacher_cost"]) == (6, round(6 * (100 * 2 + 10 * 10) / 1e6, 6))


def test_calls_at_once_are_drawn_from_one_pool_and_asked_together(tmp_path: Path) -> None:
    words = ["mill", "tower", "harbour", "market"]
    listed = [block(4, f"So loved: {word} {word} {word} {word} of {word}.", "It is old.") for word in words]

    class Ordered(Answering):
        def complete(self, prompt: Prompt) -> Completion:
            self.prompts[prompt.call] = prompt
            if prompt.call >= len(self.listed):
                raise Exhausted
            return Completion(self.listed[prompt.call], "stop", Usage(1, 1))

    results = []
    for concurrency in (1, 4):
        teacher = Ordered(listed)
        folder = tmp_path / str(concurrency)
        summary = run(SEEDS, teacher, settings(calls_at_once=3, teacher_concurrency=concurrency), folder / "out", folder / "work")
        assert (summary["teacher_calls"], summary["accepted"], summary["stopped"]) == (4, 4, "teacher_exhausted")
        assert all("So loved" not in teacher.prompts[call].text for call in range(3))
        assert teacher.prompts[3].text.count("So loved") == 2
        results.append((folder / "out" / "conversations.jsonl").read_bytes())
    assert results[0] == results[1]


# ---- prompts and readers ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. yes\n2. No\n3. YES.", [True, False, True]), ("2. yes", [False, True, False]), ("(1) 是\n2、否\n3：不是", [True, False, False]),
        ("1. This one: yes\n3. the eyes", [True, False, False]), ("Task 1: Yes\n**2.** no (open)\n3: **Yes**, of three labels", [True, False, True]),
        ("任务1：是，标签固定\n2．不是。\n３、是否固定：是", [True, False, True]), ("yes\nno", [False] * 3), ("9. yes\n0. yes", [False] * 3), ("", [False] * 3),
    ],
)  # fmt: skip
def test_kinds_as_teachers_write_them(text: str, expected: list[bool]) -> None:
    assert parse_classification(text, 3) == expected


def test_the_kinds_of_the_exemplars_are_shown() -> None:
    for lang, yes in (("en", "yes"), ("zh", "是")):
        prompt = classification_prompt(["A\nb?", "C?"], [MOOD, NAME, Task("X", "", "y", "en")], lang)
        assert prompt.count(f"\n{yes}\n") == 1
        assert prompt.endswith("1. A b?\n2. C?\n")
        assert "X" not in prompt


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("exemplar", "kind"), [(MOOD, True), (NAME, False)])
def test_the_examples_of_a_prompt_can_be_read(lang: str, exemplar: Task, kind: bool) -> None:
    prompt = instance_prompt("Q", kind, [MOOD, NAME], lang, 5)
    shown = prompt.split(exemplar.instruction + "\n", 1)[1].split("###")[0]
    assert parse_instances(shown, "stop", kind) == [Instance(exemplar.input, exemplar.output)]


@pytest.mark.parametrize(
    ("text", "reason", "kind", "expected"),
    [
        ("Sure!\n1. Input: a\nOutput: b\n###\n2. Input: c\nOutput: d", "stop", False, [("a", "b", None), ("c", "d", None)]),
        ("Input: a\nOutput: b\nInput: c\nOutput: d", "length", False, [("a", "b", None), ("c", "d", "truncated")]),
        ("Input: a\nOutput: b\n###\n", "length", False, [("a", "b", None)]),
        ("Output: only this", "stop", False, [("", "only this", None)]),
        ("输入：<无输入>\n输出：好。", "stop", False, [("", "好。", None)]),
        ("输入：无\n输出：好。\n---\n**示例2**\n**输入：** 河\n**输出：** **长**河", "stop", False, [("", "好。", None), ("河", "**长**河", None)]),
        ("Input: a\nOutput:\n```\nInput: x\n###\n```\n###", "stop", False, [("a", "```\nInput: x\n###\n```", None)]),
        ("例 1\n类别：甜\n输入：蜜糕\n###\n**类别**：咸\n输入：鱼", "stop", True, [("蜜糕", "甜", None), ("鱼", "咸", None)]),
        ("Class label: yes", "stop", True, [("", "yes", None)]),
        ("Class label:\nInput: x", "stop", True, [("x", "", "empty_output")]),
        ("nothing of the kind", "stop", True, []),
    ],
)
def test_instances_as_teachers_write_them(text: str, reason: str, kind: bool, expected: list[tuple[str, str, str | None]]) -> None:
    assert [(i.input, i.output, i.reason) for i in parse_instances(text, reason, kind)] == expected


def test_more_instances_than_wanted() -> None:
    found = [Instance(str(i), "x") for i in range(4)]
    assert [i.reason for i in sound(found, 3)] == [None, None, None, "too_many"]


@given(st.text(), st.booleans())
def test_no_text_stops_the_readers(text: str, kind: bool) -> None:
    for instance in sound(parse_instances(text, "length", kind), 5):
        assert instance.output or instance.reason
    parse_classification(text, 3)


def test_long_nonsense_is_read_in_no_time() -> None:
    for unit in (" ", "#", "1. ", "Input: ", "Label: ", "\n", "*", "1. yes", "例 "):
        parse_instances(unit * 50_000, "stop", True)
        parse_instances(unit * 50_000, "stop", False)
        parse_classification(unit * 50_000, 3)
