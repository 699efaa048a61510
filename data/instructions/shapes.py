"""Each known layout of one JSON object, turned into drafts of records. No files, no counting: see formats.py.

A shape is a function `dict -> list[Draft]` that raises Unfit with a stable reason. The dictionary at the end is the table of
names; its order is the order of detection. Those of preferences lie in preference_shapes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from data.instructions.drafts import (
    DIALOGUES,
    OUTPUTS,
    PROMPTS,
    REFERENCES,
    SYSTEMS,
    Draft,
    Object,
    Unfit,
    answered,
    asked,
    chat,
    described,
    first_of,
    has_markup,
    has_text_alone,
    is_chat,
    is_number,
    joined,
    reply_of,
    scalars,
    text_of,
    transcript,
)  # fmt: skip

Shape = Callable[[Object], list[Draft]]


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
        return isinstance(value, list) and all(is_number(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def alpaca(value: Object) -> list[Draft]:
    """One request and its answer, see `asked` and `reply_of`: Alpaca, BELLE's triplet, Dolly, OpenOrca and others that differ in names alone."""
    draft = asked(value)
    if value.get("kto_tag") is False or ("completion" in value and value.get("label") is False):
        raise Unfit("unwanted_response")  # of an unpaired preference (KTO): nobody should learn it
    output = reply_of(first_of(value, OUTPUTS))
    if not output:
        raise Unfit("empty_output")
    draft.turns.append(("assistant", output))
    draft.labels = described(value)
    return [draft]


def belle_pair(value: Object) -> list[Draft]:
    return [Draft(answered(joined(value["input"], None), value["target"]), labels=described(value))]


def text2text(value: Object) -> list[Draft]:
    """LMFlow `text2text`."""
    return [Draft(answered(joined(value["input"], None), value["output"]), labels=described(value))]


def sharegpt(value: Object) -> list[Draft]:
    """ShareGPT, and BELLE's conversations; LMSYS, WildChat and MOSS call them `conversation`."""
    draft = chat(first_of(value, DIALOGUES))
    draft.system = draft.system or text_of(first_of(value, SYSTEMS)) or None
    draft.labels = described(value)
    return [draft]


def in_turn(value: Object) -> list[Draft]:
    """UltraChat: texts of the user and the assistant in turn."""
    said = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(value["data"])]
    draft = chat(said)
    draft.labels = described(value)
    return [draft]


def messages(value: Object) -> list[Draft]:
    """OpenAI messages, and LMFlow `conversation`."""
    draft = chat(value["messages"])
    draft.system = draft.system or text_of(first_of(value, SYSTEMS)) or None
    draft.labels = described(value)
    return [draft]


def marked_text(value: Object) -> list[Draft]:
    """One transcript: HH's markup or LMFlow's `text_only`."""
    draft = transcript(value["text"])
    draft.labels = described(value)
    return [draft]


def self_instruct(value: Object) -> list[Draft]:
    """A Self-Instruct seed task: one conversation per instance."""
    instances = value["instances"]
    if not isinstance(instances, list) or not instances:
        raise Unfit("no_instances")
    labels = scalars(value, *PROMPTS)
    drafts = []
    for instance in instances:
        if not isinstance(instance, dict):
            raise Unfit("not_text")
        prompt = joined(first_of(value, PROMPTS), instance.get("input"))
        drafts.append(Draft(answered(prompt, instance.get("output")), labels=dict(labels)))
    return drafts


def question(value: Object) -> list[Draft]:
    """An evaluation question: a prompt; its answer, where there is one, is `labels.reference`."""
    prompt_key = next(key for key in ("prompt", "question") if key in value)
    answer_key = next((key for key in REFERENCES if key in value), "")
    prompt = value[prompt_key]
    draft = chat(prompt) if is_chat(prompt) else Draft([("user", joined(prompt, None))])
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
    "sharegpt": (has_any(DIALOGUES), sharegpt),
    "self_instruct": (lambda value: "instances" in value and has_any(PROMPTS)(value), self_instruct),
    "alpaca": (_has("instruction", "output"), alpaca),
    "completed": (lambda value: has_any(PROMPTS)(value) and has_any(OUTPUTS)(value), alpaca),
    "belle_pair": (_has("input", "target"), belle_pair),
    "text2text": (_has("input", "output"), text2text),
    "text": (lambda value: has_markup(value.get("text")), marked_text),
    "question": (lambda value: "prompt" in value or "question" in value, question),
    "in_turn": (lambda value: isinstance(value.get("data"), list) and has_text_alone(value["data"]), in_turn),
}
# Names that people know a layout by. "" = detected value by value.
ALIASES = {
    "belle": "alpaca", "belle_conversations": "sharegpt", "openai": "messages", "hh": "pair", "hh_pair": "pair", "lmflow_pair": "pair", "lmflow": "",
}  # fmt: skip
