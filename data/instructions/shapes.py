"""Each known layout of one JSON object, turned into drafts of records. No files, no counting: see formats.py.

A shape is a function `dict -> list[Draft]` that raises Unfit with a stable reason. The two dictionaries at the end are
the tables of names; their order is the order of detection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Labels = dict[str, str | float | int | bool | None]


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


Shape = Callable[[Object], list[Draft]]

NO_INPUT = re.compile(r"[<\[＜【(]?\s*(no\s*input|无输入|n/?a)\s*[>\]＞】)]", re.IGNORECASE)
ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip


# ---- pieces ----------------------------------------------------------------------------------------------------


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


def chat(messages: object, role_key: str, text_key: str) -> Draft:
    """Turns of a list of messages; a system message may open it."""
    if not isinstance(messages, list) or not messages:
        raise Unfit("no_turns")
    draft = Draft([])
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Unfit("not_text")
        role = ROLES.get(str(message.get(role_key)).strip().lower())
        if role is None or (role == "system" and index):
            raise Unfit("unknown_role" if role is None else "turns_do_not_alternate")
        text = text_of(message.get(text_key))
        if role == "system":
            draft.system = text or None
        elif not text:
            raise Unfit("empty_turn")
        else:
            draft.turns.append((role, text))
    return draft


_HH = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_HASHES = re.compile(r"###\s{0,8}(Human|User|Assistant|System)\s{0,8}[:：]", re.IGNORECASE)


def has_markup(value: object) -> bool:
    """True for a transcript in one string: Anthropic HH's or LMFlow's."""
    return isinstance(value, str) and bool(re.match(r"\s*(Human:|###\s*(Human|User|System)\s*[:：])", value, re.IGNORECASE))


def transcript(text: str) -> Draft:
    """Turns of `\\n\\nHuman: ...\\n\\nAssistant: ...` or `###Human: ...###Assistant: ...`; the last may be open."""
    pattern = _HASHES if text.lstrip().startswith("#") else _HH
    pieces = pattern.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        raise Unfit("no_turns")
    messages = [
        {"role": role, "content": content} for role, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if len(messages) > 1 and not messages[-1]["content"].strip() and messages[-1]["role"].lower() == "assistant":
        messages.pop()  # "\n\nAssistant:" at the end of a prompt invites the answer
    return chat(messages, "role", "content")


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
    draft = chat(value["turns"], "role", "text")
    draft.system = text_of(value.get("system")) or None
    labels = value.get("labels") or {}
    if not isinstance(labels, dict) or not all(item is None or isinstance(item, str | int | float) for item in labels.values()):
        raise Unfit("bad_labels")
    draft.labels = dict(labels)
    return [draft]


def alpaca(value: Object) -> list[Draft]:
    """Alpaca and BELLE's triplet, with `system` and `history` ([[question, answer], ...]) where given."""
    draft = Draft([], text_of(value.get("system")) or None)
    history = value.get("history") or []
    if not isinstance(history, list):
        raise Unfit("not_text")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unfit("turns_do_not_alternate")
        draft.turns += answered(joined(pair[0], None), pair[1])
    draft.turns += answered(joined(value["instruction"], value.get("input")), value["output"])
    return [draft]


def belle_pair(value: Object) -> list[Draft]:
    return [Draft(answered(joined(value["input"], None), value["target"]))]


def text2text(value: Object) -> list[Draft]:
    """LMFlow `text2text`."""
    return [Draft(answered(joined(value["input"], None), value["output"]))]


def completed(value: Object) -> list[Draft]:
    return [Draft(answered(joined(value["prompt"], None), value.get("response") or value.get("completion")))]


def sharegpt(value: Object) -> list[Draft]:
    """ShareGPT, and BELLE's conversations."""
    draft = chat(value["conversations"], "from", "value")
    draft.system = draft.system or text_of(value.get("system")) or None
    return [draft]


def messages(value: Object) -> list[Draft]:
    """OpenAI messages, and LMFlow `conversation`."""
    draft = chat(value["messages"], "role", "content")
    draft.system = draft.system or text_of(value.get("system")) or None
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
    answer_key = next((key for key in ("answer", "std_answer", "reference") if key in value), "")
    draft = Draft([("user", joined(value[prompt_key], None))])
    draft.labels = scalars(value, prompt_key, answer_key)
    if isinstance(value.get(answer_key), int | float):  # a number as an answer is an answer
        draft.labels["reference"] = str(value[answer_key])
    elif answer_key and (reference := text_of(value[answer_key])):
        draft.labels["reference"] = reference
    return [draft]


# ---- preferences -----------------------------------------------------------------------------------------------


def own_preference(value: Object) -> list[Draft]:
    [draft] = own_conversation(value)
    draft.responses = response_texts(value["responses"])
    return [draft]


def response_texts(responses: object) -> list[str]:
    if not isinstance(responses, list):
        raise Unfit("not_text")
    return [text_of(item.get("text") if isinstance(item, dict) else item) for item in responses]


def ranked(value: Object) -> list[Draft]:
    """`responses_best_first`: texts, or objects that hold a `text`."""
    prompt = joined(value.get("instruction") or value.get("prompt"), value.get("input"))
    draft = Draft([("user", prompt)], text_of(value.get("system")) or None)
    draft.responses = response_texts(value["responses_best_first"])
    draft.labels = scalars(value, "instruction", "prompt", "input", "system", "reference")
    if reference := text_of(value.get("reference")):
        draft.labels["reference"] = reference
    return [draft]


def pair(value: Object) -> list[Draft]:
    """`chosen` and `rejected` (or LMFlow's `positive`, `negative`): whole transcripts, or answers to `prompt`.

    Either side is a string, plain or with HH's or LMFlow's markup, a list of messages (the whole or its end), an object
    that holds such a list (LMFlow's `paired_conversation`), or one message. ShareGPT's `conversations` may be the prompt.
    """
    sides = []
    for names in (("chosen", "positive"), ("rejected", "negative")):
        if value.get(names[0]) is None and value.get(names[1]) is None:
            raise Unfit("unpaired")
        sides.append(next(value[name] for name in names if value.get(name) is not None))
    prompt = sharegpt(value)[0] if "conversations" in value else _prompt(value.get("prompt"))
    (first, best), (second, worst) = (_side(side, prompt) for side in sides)
    if (first.system, first.turns) != (second.system, second.turns):
        raise Unfit("different_prompts")
    labels: Labels = {}
    margin = value.get("margin")
    if margin is None and isinstance(value.get("score_chosen"), int | float) and isinstance(value.get("score_rejected"), int | float):
        margin = value["score_chosen"] - value["score_rejected"]
    if isinstance(margin, int | float) and abs(margin) < float("inf"):
        labels["margin"] = margin
    first.system = first.system or text_of(value.get("system")) or None
    return [Draft(first.turns, first.system, [best, worst], labels)]


def _prompt(value: object) -> Draft | None:
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return chat(value, "role", "content")
    text = text_of(value)
    return transcript(text) if has_markup(text) else Draft([("user", joined(text, None))])


def _side(value: object, prompt: Draft | None) -> tuple[Draft, str]:
    """The prompt that this side answers, and its answer."""
    if isinstance(value, dict) and "messages" in value:
        whole = messages(value)[0]
    elif isinstance(value, dict):
        value = [value]
        whole = chat(value, "from", "value") if "value" in value[0] else chat(value, "role", "content")
    elif isinstance(value, list):
        whole = chat(value, "role", "content")
    elif has_markup(value):
        whole = transcript(str(value))
    elif prompt is None:
        raise Unfit("no_turns")
    else:
        return Draft(list(prompt.turns), prompt.system), text_of(value)
    if not whole.turns or whole.turns[-1][0] != "assistant":
        raise Unfit("empty_output")
    answer = whole.turns.pop()[1]
    if not whole.turns and prompt is not None:
        whole = Draft(list(prompt.turns), prompt.system)
    return whole, answer


# ---- the tables ------------------------------------------------------------------------------------------------


def _has(*keys: str) -> Callable[[Object], bool]:
    return lambda value: all(key in value for key in keys)


def _any(keys: Iterable[str]) -> Callable[[Object], bool]:
    return lambda value: any(key in value for key in keys)


Table = dict[str, tuple[Callable[[Object], bool], Shape]]

PREFERENCES: Table = {
    "preference": (_has("turns", "responses"), own_preference),
    "ranked": (_has("responses_best_first"), ranked),
    "pair": (_any(("chosen", "rejected", "positive", "negative")), pair),
}
CONVERSATIONS: Table = {
    "conversation": (_has("turns"), own_conversation),
    "messages": (_has("messages"), messages),
    "sharegpt": (_has("conversations"), sharegpt),
    "self_instruct": (_has("instruction", "instances"), self_instruct),
    "alpaca": (_has("instruction", "output"), alpaca),
    "belle_pair": (_has("input", "target"), belle_pair),
    "text2text": (_has("input", "output"), text2text),
    "text": (lambda value: has_markup(value.get("text")), marked_text),
    "completed": (lambda value: "prompt" in value and ("response" in value or "completion" in value), completed),
    "question": (lambda value: "prompt" in value or "question" in value, question),
}
# Names that people know a layout by. "" = detected value by value.
ALIASES = {
    "belle": "alpaca", "belle_conversations": "sharegpt", "openai": "messages", "hh": "pair", "hh_pair": "pair", "lmflow_pair": "pair", "lmflow": "",
}  # fmt: skip
