"""Each known layout of one JSON object, turned into drafts of records. No files, no counting: see formats.py.

A shape is a function `dict -> list[Draft]` that raises Unfit with a stable reason. The dictionary at the end is the table of
names; its order is the order of detection. Those of preferences lie in preference_shapes.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from data.instructions.records import Label

Object = dict[str, Any]
Labels = dict[str, Label]


class Unfit(Exception):
    """The object cannot become a record; `reason` is snake_case and stable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Draft:
    """What a record will be made of: turns as (role, text), texts not yet checked."""

    turns: list[tuple[str, str]]
    system: str | None = None
    responses: list[str] | None = None
    labels: Labels = field(default_factory=dict)
    ratings: list[float] | None = None  # of the responses, in their order


Shape = Callable[[Object], list[Draft]]

NO_INPUT = re.compile(r"[<\[＜【(]?\s*(no\s*input|无输入|n/?a)\s*[>\]＞】)]", re.IGNORECASE)
ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "bot": "assistant", "ai": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
# What people call the parts of one request and its answer: Alpaca and BELLE, Dolly, OpenOrca, MetaMathQA.
PROMPTS = ("instruction", "prompt", "question", "query")
INPUTS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
OUTPUTS = ("output", "response", "completion")
REFERENCES = ("answer", "std_answer", "reference")  # of a question: what a right answer is held against


# ---- pieces ----------------------------------------------------------------------------------------------------


def first_of(value: Object, names: Iterable[str]) -> Any:
    """What stands under the first of these names that the object says something for; null where it does for none."""
    return next((value[name] for name in names if value.get(name) not in (None, "")), None)


def text_of(value: object) -> str:
    """A string, stripped; null is empty; a list of OpenAI text parts is joined. Raises Unfit(`not_text`)."""
    if value is None:
        return ""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if parts and all(isinstance(part, str) for part in parts):
            return "\n".join(str(part) for part in parts).strip()
    if not isinstance(value, str):
        raise Unfit("not_text")
    return value.strip()


def joined(instruction: object, given: object) -> str:
    """The user's turn: the instruction, and below it the input where there is one."""
    first, second = text_of(instruction), text_of(given)
    if not first:
        raise Unfit("empty_turn")
    return first if not second or NO_INPUT.fullmatch(second) else f"{first}\n{second}"


def answered(prompt: str, output: object) -> list[tuple[str, str]]:
    text = text_of(output)
    if not text:
        raise Unfit("empty_output")
    return [("user", prompt), ("assistant", text)]


def chat(messages: object) -> Draft:
    """Turns of a list of messages, `role` and `content` or ShareGPT's `from` and `value`; a system message may open it."""
    if not isinstance(messages, list) or not messages:
        raise Unfit("no_turns")
    draft = Draft([])
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Unfit("not_text")
        role = ROLES.get(str(first_of(message, ("role", "from"))).strip().lower())
        if role is None or (role == "system" and index):
            raise Unfit("unknown_role" if role is None else "turns_do_not_alternate")
        text = text_of(first_of(message, ("content", "value", "text")))
        if role == "system":
            draft.system = text or None
        elif not text:
            raise Unfit("empty_turn")
        else:
            draft.turns.append((role, text))
    return draft


_HH = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_BELLE = re.compile(r"Human[:：].*\nAssistant[:：]\Z", re.DOTALL)  # its multi-turn chats, in an instruction
_BELLE_TURN = re.compile(r"(?:\A|\n)(Human|Assistant)[:：]")
_HASHES = re.compile(r"###\s{0,8}(Human|User|Assistant|System)\s{0,8}[:：]", re.IGNORECASE)


def has_markup(value: object) -> bool:
    """True for a transcript in one string: Anthropic HH's or LMFlow's."""
    return isinstance(value, str) and bool(re.match(r"\s*(Human:|###\s*(Human|User|System)\s*[:：])", value, re.IGNORECASE))


def transcript(text: str) -> Draft:
    """Turns of `\\n\\nHuman: ...\\n\\nAssistant: ...` or `###Human: ...###Assistant: ...`; the last may be open."""
    return _split(text, _HASHES if text.lstrip().startswith("#") else _HH)


def _split(text: str, marks: re.Pattern[str]) -> Draft:
    pieces = marks.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        raise Unfit("no_turns")
    messages = [
        {"role": role, "content": content} for role, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if len(messages) > 1 and not messages[-1]["content"].strip() and messages[-1]["role"].lower() == "assistant":
        messages.pop()  # "\n\nAssistant:" at the end of a prompt invites the answer
    return chat(messages)


def asked(value: Object) -> Draft:
    """What is asked, up to the answer: the system prompt, `history` ([[question, answer], ...]), the request and its input."""
    draft = Draft([], text_of(first_of(value, SYSTEMS)) or None)
    history = value.get("history") or []
    if not isinstance(history, list):
        raise Unfit("not_text")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unfit("turns_do_not_alternate")
        draft.turns += answered(joined(pair[0], None), pair[1])
    request = joined(first_of(value, PROMPTS), first_of(value, INPUTS))
    draft.turns += _split(request, _BELLE_TURN).turns if _BELLE.match(request) else [("user", request)]
    return draft


def scalars(value: Object, *without: str) -> Labels:
    """The object's other simple fields become labels; its own id is kept as `source_id`."""
    labels: Labels = {}
    for key, item in value.items():
        if key not in without and key not in ("lang", "language") and isinstance(item, str | int | float | bool):
            labels["source_id" if key == "id" else key] = item
    return labels


# ---- conversations ---------------------------------------------------------------------------------------------


def own_conversation(value: Object) -> list[Draft]:
    """This project's record."""
    draft = chat(value["turns"])
    draft.system = text_of(value.get("system")) or None
    labels = value.get("labels") or {}
    if not isinstance(labels, dict) or not all(_is_label(name, item) for name, item in labels.items()):
        raise Unfit("bad_labels")
    draft.labels = dict(labels)
    return [draft]


def _is_label(name: str, value: object) -> bool:
    if name == "ratings":
        return isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    return value is None or isinstance(value, str | int | float)


def alpaca(value: Object) -> list[Draft]:
    """One request and its answer, see `asked`: Alpaca, BELLE's triplet, Dolly, OpenOrca and others that differ in names alone."""
    draft = asked(value)
    output = text_of(first_of(value, OUTPUTS))
    if not output:
        raise Unfit("empty_output")
    draft.turns.append(("assistant", output))
    return [draft]


def belle_pair(value: Object) -> list[Draft]:
    return [Draft(answered(joined(value["input"], None), value["target"]))]


def text2text(value: Object) -> list[Draft]:
    """LMFlow `text2text`."""
    return [Draft(answered(joined(value["input"], None), value["output"]))]


def sharegpt(value: Object) -> list[Draft]:
    """ShareGPT, and BELLE's conversations."""
    draft = chat(value["conversations"])
    draft.system = draft.system or text_of(first_of(value, SYSTEMS)) or None
    return [draft]


def messages(value: Object) -> list[Draft]:
    """OpenAI messages, and LMFlow `conversation`."""
    draft = chat(value["messages"])
    draft.system = draft.system or text_of(first_of(value, SYSTEMS)) or None
    return [draft]


def marked_text(value: Object) -> list[Draft]:
    """One transcript: HH's markup or LMFlow's `text_only`."""
    return [transcript(value["text"])]


def self_instruct(value: Object) -> list[Draft]:
    """A Self-Instruct seed task: one conversation per instance."""
    instances = value["instances"]
    if not isinstance(instances, list) or not instances:
        raise Unfit("no_instances")
    labels = scalars(value, "instruction")
    drafts = []
    for instance in instances:
        if not isinstance(instance, dict):
            raise Unfit("not_text")
        prompt = joined(value["instruction"], instance.get("input"))
        drafts.append(Draft(answered(prompt, instance.get("output")), labels=dict(labels)))
    return drafts


def question(value: Object) -> list[Draft]:
    """An evaluation question: a prompt; its answer, where there is one, is `labels.reference`."""
    prompt_key = next(key for key in ("prompt", "question") if key in value)
    answer_key = next((key for key in REFERENCES if key in value), "")
    draft = Draft([("user", joined(value[prompt_key], None))])
    draft.labels = scalars(value, prompt_key, answer_key)
    if isinstance(value.get(answer_key), int | float):  # a number as an answer is an answer
        draft.labels["reference"] = str(value[answer_key])
    elif answer_key and (reference := text_of(value[answer_key])):
        draft.labels["reference"] = reference
    return [draft]


# ---- the tables ------------------------------------------------------------------------------------------------


def _has(*keys: str) -> Callable[[Object], bool]:
    return lambda value: all(key in value for key in keys)


def has_any(keys: Iterable[str]) -> Callable[[Object], bool]:
    return lambda value: any(key in value for key in keys)


Table = dict[str, tuple[Callable[[Object], bool], Shape]]

CONVERSATIONS: Table = {
    "conversation": (_has("turns"), own_conversation),
    "messages": (_has("messages"), messages),
    "sharegpt": (_has("conversations"), sharegpt),
    "self_instruct": (_has("instruction", "instances"), self_instruct),
    "alpaca": (_has("instruction", "output"), alpaca),
    "completed": (lambda value: has_any(PROMPTS)(value) and has_any(OUTPUTS)(value), alpaca),
    "belle_pair": (_has("input", "target"), belle_pair),
    "text2text": (_has("input", "output"), text2text),
    "text": (lambda value: has_markup(value.get("text")), marked_text),
    "question": (lambda value: "prompt" in value or "question" in value, question),
}
# Names that people know a layout by. "" = detected value by value.
ALIASES = {
    "belle": "alpaca", "belle_conversations": "sharegpt", "openai": "messages", "hh": "pair", "hh_pair": "pair", "lmflow_pair": "pair", "lmflow": "",
}  # fmt: skip
