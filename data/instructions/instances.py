"""Instances of tasks that came without: is it a classification task, and what are its inputs and outputs?

Self-Instruct (Wang et al. 2023, section 2.2): of an open task the input is written first and then its output; of a
classification task the label first and then an input that has it, since a model left to write inputs first writes those of one
label only. Prompts in our own words, English and Chinese, and the readers of what comes back.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.instructions.drafts import NO_INPUT
from data.instructions.filters import same_text
from data.instructions.parsing import INPUT, OUTPUT, SEPARATOR, at_line_start, cut, pieces
from data.instructions.prompts import MARKS, Task

_LABEL = at_line_start("Class label", "Label", "类别", "标签")
_HEADING = re.compile(r"^[ \t*#]{0,8}(?:Example|例子?|示例)[ \t]{0,4}\d{0,4}[ \t]{0,4}[.:：*]{0,4}[ \t]{0,8}$", re.MULTILINE | re.IGNORECASE)
_VERDICT = re.compile(r"^[ \t*]{0,8}[(（]?(\d{1,4})[ \t]{0,4}[.．、)）:：][^\n]{0,400}?(?<![A-Za-z])(yes|no|是|否|不是)[ \t.。*]{0,8}$", re.MULTILINE | re.IGNORECASE)

_IS_IT = {
    "en": "Is each of these a classification task: one whose answer is one of a few fixed labels? After the examples, answer for tasks 1 to {count} with one line each: the number, a dot, and yes or no. Nothing else.\n",
    "zh": "下面的每个任务是不是分类任务，也就是回答只能是少数几个固定标签之一？请参考例子，对任务 1 到 {count} 各写一行：编号、点、是或否，不要写别的。\n",
}
_ASK = {
    ("en", False): "Write {count} different examples for the task at the end: for each first a concrete input, then the correct output. If the task needs no input, write one example with <noinput>. Keep the form of the examples, with ### after each.\n",
    ("zh", False): "请为最后的任务写 {count} 个不同的例子：先写一个具体的输入，再写正确的输出。如果任务不需要输入，就写一个例子，输入写 <无输入>。保持例子的格式，每个例子后面写 ###。\n",
    ("en", True): "The task at the end is a classification task. Choose {count} of its labels, as different as they can be; for each write first the label and then an input that has it, all classes about equally often. Keep the form of the examples, with ### after each.\n",
    ("zh", True): "最后的任务是分类任务。请选出 {count} 个尽量不同的类别，每个先写类别，再写一个属于该类别的输入，各类别数量相近。保持例子的格式，每个例子后面写 ###。\n",
}
_SEPARATOR_LINE = "###\n"
_TASK = {"en": "Task: ", "zh": "任务："}
_LABEL_MARK = {"en": "Class label: ", "zh": "类别："}
_ANSWER = {("en", True): "yes", ("en", False): "no", ("zh", True): "是", ("zh", False): "否"}


@dataclass(frozen=True)
class Instance:
    """One input with its output; `reason` is set where it cannot be used."""

    input: str
    output: str
    reason: str | None = None


def classification_prompt(instructions: Sequence[str], exemplars: Sequence[Task], lang: str) -> str:
    """Asks of each instruction whether it is a classification task; exemplars whose kind is not known are left out."""
    known = [task for task in exemplars if task.is_classification is not None]
    examples = "".join(f"{_TASK[lang]}{_one_line(task.instruction)}\n{_ANSWER[lang, bool(task.is_classification)]}\n" for task in known)
    asked = "".join(f"{number}. {_one_line(text)}\n" for number, text in enumerate(instructions, 1))
    return _IS_IT[lang].format(count=len(instructions)) + "\n" + examples + _SEPARATOR_LINE + asked


def parse_classification(text: str, count: int) -> list[bool]:
    """What was said of tasks 1 to `count`; a task that was not answered is taken for an open one."""
    found = [False] * count
    for match in _VERDICT.finditer(text):
        number = int(match[1])
        if 1 <= number <= count:
            found[number - 1] = match[2].lower() in ("yes", "是")
    return found


def instance_prompt(instruction: str, is_classification: bool, exemplars: Sequence[Task], lang: str, count: int) -> str:
    """Asks for instances of one task, after examples of the same kind."""
    examples = "".join(
        f"{_TASK[lang]}{task.instruction}\n{_shown(task, is_classification, lang)}{_SEPARATOR_LINE}"
        for task in exemplars
        if bool(task.is_classification) == is_classification
    )
    return _ASK[lang, is_classification].format(count=count) + "\n" + examples + f"{_TASK[lang]}{instruction}\n"


def parse_instances(text: str, finish_reason: str, is_classification: bool) -> list[Instance]:
    """The instances of a completion; those that were cut off or have no output carry a reason."""
    header = _LABEL if is_classification else INPUT
    found = []
    for piece in pieces(_HEADING.sub("", text), header):
        if is_classification:
            label, given = cut(piece[match.end() :] if (match := _LABEL.match(piece)) else piece, INPUT)
            output: str | None = label if match else None
        else:
            given, output = cut(piece, OUTPUT)
            given = given[match.end() :] if (match := INPUT.match(given)) else ""
        if output is None:
            continue  # a remark between the examples
        material = (given or "").strip()
        instance = Instance("" if NO_INPUT.fullmatch(material) else material, output.strip())
        found.append(instance if instance.output else replace(instance, reason="empty_output"))
    if found and finish_reason == "length" and not SEPARATOR.search(text.rstrip().rpartition("\n")[2]):
        found[-1] = replace(found[-1], reason="truncated")
    return found


def sound(instances: Sequence[Instance], most: int) -> list[Instance]:
    """Self-Instruct's post-processing: each instance, with the reason why it goes where it does.

    An output that repeats its input goes, copies go, and all instances of an input that has different outputs.
    """
    outputs: defaultdict[str, list[str]] = defaultdict(list)
    for instance in instances:
        if instance.reason is None:
            outputs[_key(instance.input)].append(instance.output)
    kept: set[str] = set()
    judged = []
    for instance in instances:
        key = _key(instance.input)
        reason = instance.reason
        if reason is None and instance.input and same_text(instance.input, instance.output):
            reason = "output_equals_input"
        elif reason is None and not all(same_text(outputs[key][0], other) for other in outputs[key]):
            reason = "conflicting_output"
        elif reason is None and key in kept:
            reason = "duplicate"
        elif reason is None and len(kept) >= most:
            reason = "too_many"
        if reason is None:
            kept.add(key)
        judged.append(replace(instance, reason=reason))
    return judged


def _shown(task: Task, is_classification: bool, lang: str) -> str:
    marks = MARKS[lang]
    given = f"{marks.input}{marks.colon}{task.input or marks.no_input}\n"
    if is_classification:
        return f"{_LABEL_MARK[lang]}{task.output}\n{given}"
    return f"{given}{marks.output}{marks.colon}{task.output}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _key(text: str) -> str:
    return " ".join(text.lower().split())
