"""Writers: typed records out, in any layout that `formats.py` reads. What a layout cannot say is counted, not bent.

A layout of one question and one answer takes no history, one without a system prompt no system prompt, and a transcript in one
string no text that holds its marks. A ranking of K responses becomes all its K (K - 1) / 2 pairs where a layout knows
pairs only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import IO, Any

from data.instructions.drafts import Unfit, has_markup, transcript
from data.instructions.lines import dump, write_whole
from data.instructions.records import Conversation, Preference, Turn
from data.instructions.shapes import ALIASES

Record = Conversation | Preference
Writer = Callable[[Any], list[dict[str, Any]]]


# ---- what a layout asks of a record ------------------------------------------------------------------------------


def _no_system(record: Record) -> None:
    if record.system is not None:
        raise Unfit("has_system")


def _answered(record: Conversation) -> list[Turn]:
    if record.turns[-1].role != "assistant":
        raise Unfit("ends_with_user")
    return record.turns


def _single(record: Conversation) -> tuple[str, str]:
    turns = _answered(record)
    if len(turns) != 2:
        raise Unfit("several_turns")
    _no_system(record)
    return turns[0].text, turns[1].text


_HH = {"user": "\n\nHuman: {}", "assistant": "\n\nAssistant: {}"}
_HASHES = {"user": "###Human: {}", "assistant": "###Assistant: {}"}


def _marked(turns: list[Turn], marks: dict[str, str]) -> str:
    """One transcript. Raises Unfit(`marks_in_text`) where it would be read as other turns than it was made from."""
    text = "".join(marks[turn.role].format(turn.text.strip()) for turn in turns)
    try:
        back = transcript(text).turns if has_markup(text) else []
    except Unfit:
        back = []
    if back != [(turn.role, turn.text.strip()) for turn in turns]:
        raise Unfit("marks_in_text")
    return text


def _messages(turns: list[Turn], system: str | None) -> list[dict[str, str]]:
    opening = [{"role": "system", "content": system}] if system is not None else []
    return [*opening, *({"role": turn.role, "content": turn.text} for turn in turns)]


# ---- conversations -----------------------------------------------------------------------------------------------


def own(record: Record) -> list[dict[str, Any]]:
    return [record.model_dump()]


def alpaca(record: Conversation) -> list[dict[str, Any]]:
    """BELLE's triplet too. Earlier turns are `history`; the input stays part of the instruction."""
    *before, question, answer = _answered(record)
    value: dict[str, Any] = {"instruction": question.text, "input": "", "output": answer.text}
    if record.system is not None:
        value["system"] = record.system
    if before:
        value["history"] = [[first.text, second.text] for first, second in zip(before[::2], before[1::2], strict=True)]
    return [value]


def belle_pair(record: Conversation) -> list[dict[str, Any]]:
    question, answer = _single(record)
    return [{"input": question, "target": answer}]


def text2text(record: Conversation) -> list[dict[str, Any]]:
    question, answer = _single(record)
    return [{"input": question, "output": answer}]


def completed(record: Conversation) -> list[dict[str, Any]]:
    question, answer = _single(record)
    return [{"prompt": question, "response": answer}]


def sharegpt(record: Conversation) -> list[dict[str, Any]]:
    names = {"user": "human", "assistant": "gpt"}
    value: dict[str, Any] = {"id": record.id, "conversations": [{"from": names[turn.role], "value": turn.text} for turn in record.turns]}
    return [value if record.system is None else {"system": record.system, **value}]


def messages(record: Conversation) -> list[dict[str, Any]]:
    return [{"messages": _messages(record.turns, record.system)}]


def hh_text(record: Conversation) -> list[dict[str, Any]]:
    _no_system(record)
    return [{"text": _marked(record.turns, _HH)}]


def lmflow_text(record: Conversation) -> list[dict[str, Any]]:
    _no_system(record)
    return [{"text": _marked(record.turns, _HASHES)}]


def self_instruct(record: Conversation) -> list[dict[str, Any]]:
    question, answer = _single(record)
    kind = record.labels.get("is_classification")
    value: dict[str, Any] = {"id": record.id, "instruction": question, "instances": [{"input": "", "output": answer}]}
    return [{**value, "is_classification": kind} if isinstance(kind, bool) else value]


def question(record: Conversation) -> list[dict[str, Any]]:
    _no_system(record)
    if len(record.turns) != 1:
        raise Unfit("several_turns")
    reference = record.labels.get("reference")
    return [{"prompt": record.turns[0].text, **({"answer": reference} if reference is not None else {})}]


# ---- preferences -------------------------------------------------------------------------------------------------


def pair(record: Preference) -> list[dict[str, Any]]:
    """Plain prompt, chosen, rejected; a history as messages."""
    if len(record.turns) == 1 and record.system is None:
        prompt: Any = record.turns[0].text
        sides: Any = [[text] for text in record.responses]
        return _pairs(record, [{"prompt": prompt, "chosen": best[0], "rejected": worst[0]} for best, worst in combinations(sides, 2)])
    prompt = _messages(record.turns, record.system)
    sides = [[{"role": "assistant", "content": text}] for text in record.responses]
    return _pairs(record, [{"prompt": prompt, "chosen": best, "rejected": worst} for best, worst in combinations(sides, 2)])


def hh_pair(record: Preference) -> list[dict[str, Any]]:
    return _marked_pairs(record, _HH, "chosen", "rejected")


def lmflow_pair(record: Preference) -> list[dict[str, Any]]:
    return _marked_pairs(record, _HASHES, "positive", "negative")


def ranked(record: Preference) -> list[dict[str, Any]]:
    if len(record.turns) != 1:
        raise Unfit("several_turns")
    value: dict[str, Any] = {"instruction": record.turns[0].text, "input": "", "responses_best_first": record.responses}
    if record.system is not None:
        value["system"] = record.system
    return [{**{name: label for name, label in record.labels.items() if name not in value and label is not None}, **value}]


def _marked_pairs(record: Preference, marks: dict[str, str], chosen: str, rejected: str) -> list[dict[str, Any]]:
    _no_system(record)
    texts = [_marked([*record.turns, Turn(role="assistant", text=text)], marks) for text in record.responses]
    return _pairs(record, [{chosen: best, rejected: worst} for best, worst in combinations(texts, 2)])


def _pairs(record: Preference, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`values` with their margins; pairs of responses that are rated alike are none."""
    ratings, margin = record.labels.get("ratings"), record.labels.get("margin")
    if isinstance(ratings, list):
        margins = [better - worse for better, worse in combinations(ratings, 2)]
        return [{**value, "margin": margin} for value, margin in zip(values, margins, strict=True) if margin > 0]
    return [{**value, "margin": margin} for value in values] if margin is not None and len(values) == 1 else values


# ---- the tables --------------------------------------------------------------------------------------------------

CONVERSATION_WRITERS: dict[str, Writer] = {
    "conversation": own, "messages": messages, "sharegpt": sharegpt, "self_instruct": self_instruct, "alpaca": alpaca,
    "belle_pair": belle_pair, "text2text": text2text, "text": hh_text, "completed": completed, "question": question,
    "lmflow_text": lmflow_text, "lmflow_text2text": text2text, "lmflow_conversation": messages,
}  # fmt: skip
PREFERENCE_WRITERS: dict[str, Writer] = {"preference": own, "ranked": ranked, "pair": pair, "hh_pair": hh_pair, "lmflow_pair": lmflow_pair}
# LMFlow's file is one object; all others are JSON lines.
_LMFLOW_TYPES = {"lmflow_text": "text_only", "lmflow_text2text": "text2text", "lmflow_conversation": "conversation", "lmflow_pair": "paired_text_only"}


def write(path: Path, records: Iterable[Record], format: str) -> tuple[int, dict[str, int]]:
    """Write `records` in order; the file appears whole or not at all. Returns (lines written, records left out by reason).

    Args:
        format: of conversations or of preferences, as the records are; aliases as when reading.

    Raises:
        ValueError: the format is not known, or is one for the other kind of record.
    """
    written, left_out = 0, Counter[str]()
    known = {**CONVERSATION_WRITERS, **PREFERENCE_WRITERS}
    name = "hh_pair" if format == "hh" else format if format in known else ALIASES.get(format, format)  # read, HH is any pair
    if name not in known:
        raise ValueError(f"format {format!r} cannot be written; choose from {', '.join(known)}")
    stream = iter(records)
    first = next(stream, None)
    table = PREFERENCE_WRITERS if isinstance(first, Preference) else CONVERSATION_WRITERS
    if first is not None and name not in table:
        raise ValueError(f"{format!r} is no format for a {type(first).__name__.lower()}; choose from {', '.join(table)}")

    def values() -> Iterator[dict[str, Any]]:
        nonlocal written
        for record in chain([first] if first is not None else [], stream):
            try:
                made = known[name](record)
            except Unfit as unfit:
                left_out[unfit.reason] += 1
                continue
            written += len(made)
            yield from made

    def fill(file: IO[str]) -> None:
        kind = _LMFLOW_TYPES.get(name)
        if kind is None:
            file.writelines(dump(value) for value in values())
            return
        file.write(f'{{"type": {json.dumps(kind)}, "instances": [')
        for number, value in enumerate(values()):
            file.write((",\n" if number else "\n") + dump(value).rstrip("\n"))
        file.write("\n]}\n")

    write_whole(path, fill)
    return written, dict(sorted(left_out.items()))
