"""Readers: any known layout of instruction or preference data in, typed records out; what fits none is kept aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from data.instructions.language import script_language
from data.instructions.lines import Rejected, Value, excerpt, read_values, write_jsonl
from data.instructions.records import Conversation, Preference, Turn, record_id
from data.instructions.shapes import ALIASES, CONVERSATIONS, PREFERENCES, Draft, Object, Table, Unfit

__all__ = ["Reading", "Rejected", "read_conversations", "read_preferences", "write_jsonl"]

R = TypeVar("R", Conversation, Preference)


@dataclass
class Reading(Generic[R]):
    """What a file held. Every JSON value is either in `records` (one value may give several) or in `rejected`."""

    records: list[R] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    values: int = 0  # JSON values and broken lines met; LMFlow's `instances` counted one by one
    formats: dict[str, int] = field(default_factory=dict)  # values by detected format
    merged: dict[str, int] = field(default_factory=dict)  # responses left out of a ranking: equal_response, empty_response

    def reasons(self) -> dict[str, int]:
        """Rejected lines by reason."""
        return dict(sorted(Counter(line.reason for line in self.rejected).items()))


def read_conversations(path: Path, format: str | None = None, source: str | None = None) -> Reading[Conversation]:
    """Conversations (and prompts, which end with the user) of a JSON-lines file or JSON array, gzipped or not.

    Args:
        format: a name of `shapes.CONVERSATIONS` (or an alias: belle, openai, lmflow, ...); null = detected line by line.
        source: what `Conversation.source` says; the file's name where null.

    Raises:
        ValueError: the format is not known.
        FileNotFoundError: as `open` does.
    """
    return _read(path, CONVERSATIONS, PREFERENCES, format, source or path.name, _conversation)


def read_preferences(path: Path, format: str | None = None, source: str | None = None) -> Reading[Preference]:
    """Prompts with their responses, best first; equal and empty responses of one prompt are left out and counted.

    Arguments and errors as `read_conversations`; names of formats in `shapes.PREFERENCES`.
    """
    return _read(path, PREFERENCES, CONVERSATIONS, format, source or path.name, _preference)


def _read(path: Path, table: Table, other: Table, format: str | None, source: str, build: Any) -> Reading[R]:
    name = ALIASES.get(format or "", format) or None
    if name is not None and name not in table:
        raise ValueError(f"format {format!r} is not known; choose from {', '.join([*table, *ALIASES])}")
    reading: Reading[R] = Reading()
    formats: Counter[str] = Counter()
    merged: Counter[str] = Counter()
    for item in _expanded(path):
        reading.values += 1
        if isinstance(item, Rejected):
            reading.rejected.append(item)
            continue
        try:
            found = _detect(item.value, table, other, name)
            records = [build(draft, item.value, source, merged) for draft in table[found][1](item.value)]
        except Unfit as unfit:
            reading.rejected.append(Rejected(item.line, unfit.reason, excerpt(str(item.value))))
        else:
            formats[found] += 1
            reading.records.extend(records)
    reading.formats, reading.merged = dict(sorted(formats.items())), dict(sorted(merged.items()))
    return reading


def _expanded(path: Path) -> Iterator[Value | Rejected]:
    """Values of the file; an LMFlow file, one object with `type` and `instances`, gives its instances."""
    for item in read_values(path):
        value = item.value if isinstance(item, Value) else None
        if isinstance(value, dict) and isinstance(value.get("instances"), list) and "instruction" not in value:
            for instance in value["instances"]:
                yield Value(item.line, instance)
        else:
            yield item


def _detect(value: object, table: Table, other: Table, name: str | None) -> str:
    if not isinstance(value, dict):
        raise Unfit("not_an_object")
    if name is not None:
        if table[name][0](value):
            return name
        raise Unfit("unknown_format")
    if table is CONVERSATIONS and any(fits(value) for fits, _ in other.values()):
        raise Unfit("wrong_kind")  # a pair also has a `prompt`, and would pass as a question
    for candidate, (fits, _) in table.items():
        if fits(value):
            return candidate
    raise Unfit("wrong_kind" if any(fits(value) for fits, _ in other.values()) else "unknown_format")


def _conversation(draft: Draft, value: Object, source: str, merged: Counter[str]) -> Conversation:
    turns = _turns(draft)
    texts = [turn.text for turn in turns]
    return Conversation(
        id=record_id(draft.system, texts), source=_source(value, source), lang=_lang(value, texts),
        system=draft.system, turns=turns, labels=draft.labels,
    )  # fmt: skip


def _preference(draft: Draft, value: Object, source: str, merged: Counter[str]) -> Preference:
    turns = _turns(draft)
    if turns[-1].role != "user":
        raise Unfit("ends_with_assistant")
    assert draft.responses is not None  # every shape of PREFERENCES sets them
    responses: list[str] = []
    left_out: Counter[str] = Counter()
    for response in draft.responses:
        if response and response not in responses:
            responses.append(response)
        else:
            left_out["equal_response" if response else "empty_response"] += 1
    if len(responses) < 2:
        raise Unfit("empty_output" if left_out["empty_response"] else "equal_responses" if left_out else "unpaired")
    texts = [turn.text for turn in turns]
    _check_text(responses)
    merged.update(left_out)
    return Preference(
        id=record_id(draft.system, [*texts, *responses]), source=_source(value, source), lang=_lang(value, texts),
        system=draft.system, turns=turns, responses=responses, labels=draft.labels,
    )  # fmt: skip


def _turns(draft: Draft) -> list[Turn]:
    if not draft.turns:
        raise Unfit("no_turns")
    for index, (role, _) in enumerate(draft.turns):
        if role != ("user", "assistant")[index % 2]:
            raise Unfit("turns_do_not_alternate")
    _check_text([draft.system or "", *(text for _, text in draft.turns), *map(str, draft.labels.values())])
    return [Turn(role="user" if role == "user" else "assistant", text=text) for role, text in draft.turns]


def _check_text(texts: list[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise Unfit("nul_byte")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise Unfit("bad_unicode") from None


def _source(value: Object, default: str) -> str:
    own = value.get("source") if "turns" in value else None
    return own if isinstance(own, str) and own else default


def _lang(value: Object, texts: list[str]) -> str | None:
    for key in ("lang", "language"):
        if isinstance(value.get(key), str) and value[key]:
            return str(value[key])
    return script_language(texts[0]) or script_language("\n".join(texts))
