"""What records are made of: drafts, the names that their parts go by, and texts, messages and transcripts as turns."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
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


# Of data, where a bare word may be an input: only in brackets. What teachers write is read by `parsing.NO_INPUT`.
_NO_INPUT = re.compile(r"[<\[＜【(]?\s*(no\s*input|无输入|n/?a)\s*[>\]＞】)]", re.IGNORECASE)
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
DIALOGUES = ("conversations", "conversation")
_TEXT_PARTS = ("text", "input_text", "output_text")  # OpenAI's chat completions, its responses
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
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else None for part in value]
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
    return first if not second or _NO_INPUT.fullmatch(second) else f"{first}\n{second}"


def answered(prompt: str, output: object) -> list[tuple[str, str]]:
    text = text_of(output)
    if not text:
        raise Unfit("empty_output")
    return [("user", prompt), ("assistant", text)]


def chat(messages: object) -> Draft:
    """Turns of a list of messages, `role` and `content` or ShareGPT's `from` and `value`; a system message may open it.

    One object may be a whole exchange, {"human", "assistant"} (MOSS). Thoughts (`reasoning_content`) stand before their answer in
    <think> marks, as DeepSeek-R1 and Qwen3 write them. A call of a tool is no text.
    """
    if not isinstance(messages, list) or not messages:
        raise Unfit("no_turns")
    draft = Draft([])
    for index, message in enumerate(_one_by_one(messages)):
        if message.get("tool_calls") or message.get("function_call"):
            raise Unfit("tool_call")
        role = ROLES.get(str(first_of(message, ("role", "from"))).strip().lower())
        if role is None or (role == "system" and index):
            raise Unfit("unknown_role" if role is None else "turns_do_not_alternate")
        text = text_of(first_of(message, ("content", "value", "text")))
        if role == "system":
            draft.system = text or None
        elif not text:
            raise Unfit("empty_turn")
        else:
            thoughts = text_of(message.get("reasoning_content"))
            draft.turns.append((role, f"<think>\n{thoughts}\n</think>\n\n{text}" if thoughts else text))
    return draft


def _one_by_one(messages: list[Any]) -> Iterator[Object]:
    for message in messages:
        if not isinstance(message, dict):
            raise Unfit("not_text")
        said = [] if "role" in message or "from" in message else [name for name in message if name.lower() in ROLES]
        yield from ({"role": name, "content": message[name]} for name in said) if said else [message]


def has_text_alone(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(item, str) for item in values)


def is_chat(value: object) -> bool:
    """True for a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in value)


_HH = re.compile(r"(?:\A\s*|\n\r?\n)(Human|Assistant)[:：]")
_BELLE = re.compile(r"Human[:：].*\nAssistant[:：]\Z", re.DOTALL)  # its multi-turn chats, in an instruction
_BELLE_TURN = re.compile(r"(?:\A|\n)(Human|Assistant)[:：]")
_HASHES = re.compile(r"###\s{0,8}(Human|User|Assistant|System)\s{0,8}[:：]", re.IGNORECASE)


def has_markup(value: object) -> bool:
    """True for a transcript in one string: Anthropic HH's or LMFlow's."""
    return isinstance(value, str) and bool(re.match(r"\s*(Human[:：]|###\s*(Human|User|System)\s*[:：])", value, re.IGNORECASE))


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
    request, given = first_of(value, PROMPTS), first_of(value, INPUTS)
    if is_chat(request):
        before = chat(request)
        draft.system = before.system or draft.system
        draft.turns += before.turns
        return draft
    request = joined(request, given) if request is not None else joined(given, None)  # an input alone is the request
    draft.turns += _split(request, _BELLE_TURN).turns if _BELLE.match(request) else [("user", request)]
    return draft


def reply_of(value: object) -> str:
    """The text of an answer: a string, or a list of one message of the assistant's (TRL)."""
    if not is_chat(value):
        return text_of(value)
    [(role, text), *more] = chat(value).turns or [("", "")]
    if role != "assistant" or more:
        raise Unfit("turns_do_not_alternate")
    return text


def is_number(value: object) -> bool:
    """True for what a float can say: no NaN, no infinity, no whole number of a thousand digits."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def scalars(value: Object, *without: str) -> Labels:
    """The object's other simple fields become labels; its own id is kept as `source_id`."""
    labels: Labels = {}
    for key, item in value.items():
        if key in (*without, "lang", "language", "ratings") or not isinstance(item, str | int | float | bool):
            continue  # `ratings` belong to responses
        if not isinstance(item, float) or math.isfinite(item):
            labels["source_id" if key == "id" else key] = item
    return labels


_SPOKEN = {*PROMPTS, *INPUTS, *SYSTEMS, *OUTPUTS, "target", "text"}
_LONGEST = 200  # characters of a label; a longer text is none (Alpaca's table repeats the whole prompt)


def described(value: Object, *without: str) -> Labels:
    """What an object says about its conversation: category, kind, score, its own id."""
    return {name: label for name, label in scalars(value, *_SPOKEN, *without).items() if not isinstance(label, str) or len(label) <= _LONGEST}
