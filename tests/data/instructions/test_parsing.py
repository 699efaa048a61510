"""Numbered completions, as teachers really write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.instructions.parsing import Item, parse
from data.instructions.prompts import LANGUAGES, MARKS, Task, prompt_text


def fields(item: Item) -> tuple[str, str, str | None, str | None]:
    return item.instruction, item.input, item.output, item.reason


RIVER = ("Which river runs through Aldermoor?", "", "The Silverrun runs through Aldermoor.", None)


@pytest.mark.parametrize(
    "text",
    [
        "4. Instruction: {}\nInput: <noinput>\nOutput: {}\n###\n",
        "4. Instruction: {}\nInput: <no input>\nOutput: {}",
        "Instruction: {}\nOutput: {}\n###",
        "  12)  Instruction : {}\n  Input :  <noinput>\n\n  Output :\n{}\n\n ### \n",
        "**4. Instruction:** {}\n**Input:** N/A)\n**Output:** {}",
        "4.\tINSTRUCTION： {}\r\nInput：\r\nOutput： {}\r\n###",
        "Task 4: Instruction: {}\nInput: (no input)\nOutput: {}",
        "(4) Instruction: {}\n输入：<无输入>\n输出：{}",
        "4. Instruction: {}\n4. Input: none\n4. Output: {}".replace("none", "<noinput>"),
    ],
)
def test_one_item_however_it_is_laid_out(text: str) -> None:
    [item] = parse(text.format(RIVER[0], RIVER[2]), "stop")
    assert fields(item) == RIVER


@pytest.mark.parametrize("colon", ["：", ":", " ： "])
def test_chinese(colon: str) -> None:
    text = f"5．指令{colon}哪条河流过灰泉镇？\n输入{colon}<无输入>\n输出{colon}是银梭河。\n###\n6、指令{colon}译成英文\n输入{colon}河\n输出{colon}river"
    assert [fields(item) for item in parse(text, "stop")] == [
        ("哪条河流过灰泉镇？", "", "是银梭河。", None),
        ("译成英文", "河", "river", None),
    ]


TWO = [("解释重力。", "", "重力使物体下落。", None), ("说出一种水果。", "苹果或梨", "苹果。", None)]


@pytest.mark.parametrize(
    "text",
    [
        "９．指令：{}\n输入：无\n输出：{}\n###\n１０．指令：{}\n输入：{}\n输出：{}\n###",
        "**9. 指令：** {}\n**输入：** 无。\n**输出：** {}\n\n---\n\n**10. 指令**：{}\n**输入**：{}\n**输出**：{}\n\n---",
        "9. 【指令】{}\n【输入】（无）\n【输出】{}\n10. 【指令】：{}\n【输入】：{}\n【输出】：{}",
        "任务9：\n指令：{}\n输入：无输入\n输出：{}\n\n任务10：\n指令：{}\n输入：{}\n输出：{}",
        "九、指令：{}\n\u3000\u3000輸入：無\n\u3000\u3000輸出：{}\n十、指令：{}\n\u3000\u3000輸入：{}\n\u3000\u3000輸出：{}",
        "指令9：{}\n输入9：<无>\n答案：{}\n指令10：{}\n输入10：{}\n输出10：{}",
        "### 9. Instruction: {}\nInput: None\nOutput: {}\n###\n### 10. Instruction: {}\nInput: {}\nOutput: {}",
        "### Instruction:\n{}\n\n### Input:\nN/A\n\n### Response:\n{}\n\n### Instruction\n{}\n\n### Input\n{}\n\n### Output\n{}",
        "**Task 9**\n- Instruction: {}\n- Input: `<noinput>`\n- Output: {}\n\n**Task 10**\n- Instruction: {}\n- Input: {}\n- Output: {}",
        "9.\n**Instruction: {}**\n**Input:** -\n**Output:** {} ###\n10.\n**Instruction**\n{}\nInput: {}\nOutput: {}###",
        "```\n9. Instruction: {}\rInput: No input needed.\rOutput: {}\r***\r10. Instruction: {}\rInput: {}\rOutput: {}\n```",
    ],
)
def test_two_items_however_they_are_told_apart(text: str) -> None:
    (first, _, one, _), (second, given, two, _) = TWO
    assert [fields(item) for item in parse(text.format(first, one, second, given, two), "stop")] == TWO


def test_bold_letters_of_the_answer_stay() -> None:
    [item] = parse("4. **Instruction:** Name *two* **rivers**\nOutput: **Merrow** and __Kestrel__", "stop")
    assert (item.instruction, item.output) == ("Name *two* **rivers**", "**Merrow** and __Kestrel__")


def test_a_code_block_holds_no_marks() -> None:
    code = "```python\n###\n# adds\n###\nOutput: 1\n```\n1. First\n2. Second"
    text = f"4. Instruction: Mend it.\nInput:\n```\nInput: 5\nOutput: 6\n```\nOutput: {code}\n###\n5. Instruction: X\nOutput: ```open\n###\nrest"
    assert [fields(item) for item in parse(text, "stop")] == [
        ("Mend it.", "```\nInput: 5\nOutput: 6\n```", code, None), ("X", "", "```open", None), ("", "", None, "unparsable"),
    ]  # fmt: skip


def test_texts_of_several_lines_and_lists_within() -> None:
    text = "1. Instruction: Name two rivers.\nOne a line.\nInput: a\nb\nOutput: 1. Merrow\n2. Kestrel\n\n## Notes\ndone\n###\n2. Instruction: X\nOutput: y"
    first, second = parse(text, "stop")
    assert fields(first) == ("Name two rivers.\nOne a line.", "a\nb", "1. Merrow\n2. Kestrel\n\n## Notes\ndone", None)
    assert fields(second) == ("X", "", "y", None)


def test_items_without_a_separator_between_them() -> None:
    text = "1. Instruction: A\nInput: a\nOutput: x\n2. Instruction: B\nInput: b\nOutput: y"
    assert [item.instruction for item in parse(text, "stop")] == ["A", "B"]


def test_positions_count_what_is_not_blank_and_reasons_name_what_is_missing() -> None:
    text = (
        "Sure, here are more:\n###\n\n###\n1. Instruction: A\nInput: a\n###\n2. Instruction: B\nOutput:\n###\n"
        "3. Instruction:\nOutput: c\n###\n7 7 7\n###\n"
    )
    items = parse(text, "stop")
    assert [(item.position, item.reason) for item in items] == [
        (0, "unparsable"), (1, "no_output"), (2, None), (3, "unparsable"), (4, "unparsable"),
    ]  # fmt: skip
    assert items[2].output == ""


def test_only_the_last_item_of_a_cut_completion_is_truncated() -> None:
    text = "1. Instruction: A\nOutput: x\n###\n2. Instruction: B\nOutput: The be"
    assert [item.reason for item in parse(text, "length")] == [None, "truncated"]
    assert [item.reason for item in parse(text, "stop")] == [None, None]
    # cut behind a separator: the last item is whole
    assert [item.reason for item in parse(text + "\n###\n", "length")] == [None, None]
    assert parse("", "length") == []


line = st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=30).map(lambda text: " ".join(text.split())).filter(bool)


@given(st.sampled_from(LANGUAGES), st.lists(st.tuples(line, st.just("") | line, line), min_size=1, max_size=5))
def test_the_prompts_own_exemplars_are_read_back(lang: str, rows: list[tuple[str, str, str]]) -> None:
    tasks = [Task(*row, lang=lang) for row in rows]
    shown = prompt_text(tasks, lang, 10).split("\n\n", 2)[-1]
    assert [fields(item) for item in parse(shown, "stop")] == [(*row, None) for row in rows]


@given(st.text())
def test_no_text_stops_it(text: str) -> None:
    for item in parse(text, "length"):
        assert item.text


def test_a_long_nonsense_completion_is_read_in_no_time() -> None:
    for unit in (" ", "#", "1. ", "Instruction: ", "\n", "*", "Input ", "[", "1", "```a\n", "Task 1\n", "**Instruction\n", "---\n", "\u3000"):
        parse(unit * 50_000, "stop")


def test_every_language_has_its_marks() -> None:
    assert set(MARKS) == set(LANGUAGES)
