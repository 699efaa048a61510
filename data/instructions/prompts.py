"""What the teacher is asked: a numbered list of example tasks, to be continued. English and Chinese, our own words.

The requirements are those of Self-Instruct and Alpaca (variety of verbs, of kinds and of form; no pictures or sound; a
real input or none; a complete answer), said anew. `parsing.py` reads what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One instruction with one instance. `input` is empty where the instruction stands alone."""

    instruction: str
    input: str
    output: str
    lang: str
    is_classification: bool | None = None


@dataclass(frozen=True)
class Marks:
    """The words of the grammar in one language."""

    instruction: str
    input: str
    output: str
    no_input: str
    colon: str


MARKS = {
    "en": Marks("Instruction", "Input", "Output", "<noinput>", ": "),
    "zh": Marks("指令", "输入", "输出", "<无输入>", "："),
}
SEPARATOR = "###"

_ENGLISH = """\
You write training tasks for an assistant that answers in text. Below is a numbered list of tasks. Continue it with {count} new ones, in English.

- Let each task start with another verb or question word, and differ from the others in subject.
- Vary the form: questions, orders, requests with a role or a tone, short and long ones; and the kind: facts, explanation, rewriting, extraction, comparison, classification, brainstorming, arithmetic, code.
- A text model must be able to do it: nothing to be seen, heard, drawn, opened or looked up on the web, no action in the outside world.
- One or two sentences of instruction are enough.
- Give an input only where the task needs material to work on; then make it concrete and real, of at most 100 words, never a placeholder. Otherwise write <noinput>.
- The output is the full, correct answer that a careful person would give, of at most 100 words.
- Keep exactly the form of the list: number, Instruction, Input, Output, and ### between tasks.
"""
_CHINESE = """\
你负责为一个以文字作答的助手编写训练任务。下面是一份带编号的任务清单，请用中文接着写 {count} 个新任务。

- 每个任务换一个动词或疑问词开头，题材也互不相同。
- 形式要多样：提问、要求、带角色或语气的请求，有长有短；类型也要多样：常识、解释、改写、提取、比较、分类、头脑风暴、计算、编程。
- 必须是文字模型能完成的：不需要看图、听声音、画图、打开文件、上网查询，也不需要在现实中行动。
- 指令写一两句话即可。
- 只有任务确实需要材料时才写输入，并且要具体真实，不超过 100 个字，不能用占位符；不需要时写 <无输入>。
- 输出是一个细心的人会给出的完整而正确的回答，不超过 100 个字。
- 严格保持清单的格式：编号、指令、输入、输出，任务之间用 ### 隔开。
"""
_ASK = {"en": _ENGLISH, "zh": _CHINESE}
# What the requirements say of inputs and outputs, where only instructions are asked for.
_BARE = {
    "en": (
        ("- Give an input only", "- The output is"),
        "- Keep exactly the form of the list: number, Instruction, and ### between tasks. Write neither inputs nor answers.\n",
    ),
    "zh": (("- 只有任务确实", "- 输出是"), "- 严格保持清单的格式：编号、指令，任务之间用 ### 隔开。不要写输入，也不要写回答。\n"),
}
LANGUAGES = tuple(_ASK)


def prompt_text(exemplars: Sequence[Task], lang: str, count: int, bare: bool = False) -> str:
    """The whole prompt: requirements, then the exemplars numbered from 1; the answer goes on with the next number.

    Args:
        bare: instructions alone are shown and asked for.
    """
    return requirements(lang, count, bare) + "\n" + "".join(
        f"{number}. {shown(task, lang, bare)}\n{SEPARATOR}\n" for number, task in enumerate(exemplars, 1)
    )  # fmt: skip


def requirements(lang: str, count: int, bare: bool = False) -> str:
    """What a new task must be like, as lines."""
    text = _ASK[lang].format(count=count)
    if not bare:
        return text
    left_out, form = _BARE[lang]
    lines = text.splitlines(keepends=True)[:-1]
    return "".join(line for line in lines if not line.startswith(left_out)) + form


def shown(task: Task, lang: str, bare: bool = False) -> str:
    """A task in the grammar that `parsing.py` reads."""
    marks = MARKS[lang]
    if bare:
        return f"{marks.instruction}{marks.colon}{task.instruction}"
    fields = ((marks.instruction, task.instruction), (marks.input, task.input or marks.no_input), (marks.output, task.output))
    return "\n".join(f"{name}{marks.colon}{text}" for name, text in fields)


# ---- about a topic -----------------------------------------------------------------------------------------------

_TOPIC = {
    "en": (
        "You write training tasks for an assistant that answers in text. Write {count} new tasks in English about one subject.\n",
        "What the subject is about: {}.\n", "People ask in ways like these, where … is left open:\n", "What people really asked:\n",
        "Cover what the examples leave out, and do not repeat them. Write each task in this form:\n",
    ),
    "zh": (
        "你负责为一个以文字作答的助手编写训练任务。请围绕同一个主题，用中文写 {count} 个新任务。\n",
        "主题的关键词：{}。\n", "人们常用的问法（…处可替换）：\n", "真实的提问：\n",
        "请写例子没有涉及的内容，不要重复例子。每个任务按下面的格式写：\n",
    ),
}  # fmt: skip


def topic_prompt(phrases: Sequence[str], patterns: Sequence[str], texts: Sequence[str], lang: str, count: int) -> str:
    """Asks for tasks about one topic, known by its key phrases, its sentence patterns and some of its texts."""
    opening, about, ways, asked, form = _TOPIC[lang]
    marks = MARKS[lang]
    parts = [opening.format(count=count), "".join(line for line in requirements(lang, count).splitlines(keepends=True)[1:-1] if line.strip())]
    if phrases:
        parts.append(about.format(("; " if lang == "en" else "；").join(phrases)))
    if patterns:
        parts.append(ways + "".join(f"- {pattern}\n" for pattern in patterns))
    parts.append(asked + "".join(f"- {' '.join(text.split())}\n" for text in texts))
    grammar = f"1. {marks.instruction}{marks.colon}{'…'}\n{marks.input}{marks.colon}{marks.no_input}\n{marks.output}{marks.colon}{'…'}\n{SEPARATOR}\n"
    return "\n".join([*parts, form + grammar])
