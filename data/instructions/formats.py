"""Readers: any known layout of instruction or preference data in, typed records out; what fits none is kept aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from data.corpus.language_codes import is_language_code, language_code
from data.instructions.drafts import PROMPTS, Draft, Object, Unfit
from data.instructions.language import script_language
from data.instructions.lines import Rejected, excerpt, read_values, write_jsonl
from data.instructions.preference_shapes import PREFERENCES
from data.instructions.records import Conversation, Preference, Turn, record_id
from data.instructions.shapes import ALIASES, CONVERSATIONS, Table, has_any

__all__ = [
    "Reading", "Rejected", "Tally", "read_conversations", "read_preferences", "stream_conversations", "stream_preferences", "why_nothing", "write_jsonl",
]  # fmt: skip

R = TypeVar("R", Conversation, Preference)


@dataclass
class Tally:
    """What a stream has met so far. Every JSON value gave records (one value may give several) or a rejected line."""

    values: int = 0  # JSON values and broken lines; an LMFlow file's instances one by one
    records: int = 0
    formats: Counter[str] = field(default_factory=Counter)  # values by detected format
    merged: Counter[str] = field(default_factory=Counter)  # responses left out of a ranking: equal_response, empty_response
    rejected: Counter[str] = field(default_factory=Counter)  # lines by reason

    def reasons(self) -> dict[str, int]:
        """Rejected lines by reason, in the order of names."""
        return dict(sorted(self.rejected.items()))


_WAYS_OUT = {
    "bad_unicode": "save it as UTF-8", "broken_json": "JSON lines, a JSON array and Parquet are read",
    "unknown_format": "python -m data.instructions.convert --help names the layouts",
    "wrong_kind": "preferences stand where conversations are wanted, or conversations where preferences are",
}  # fmt: skip


def why_nothing(reasons: Mapping[str, int]) -> str:
    """Why a file gave no record: its rejected lines by reason, and for the commonest the way out, where there is one."""
    if not reasons:
        return "it is empty"
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    way_out = _WAYS_OUT.get(max(reasons, key=lambda reason: reasons[reason]))
    return f"{counted}: {way_out}" if way_out else counted


@dataclass
class Reading(Generic[R]):
    """What a small file held, all at once."""

    records: list[R] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @property
    def values(self) -> int:
        return self.tally.values

    @property
    def formats(self) -> dict[str, int]:
        return dict(sorted(self.tally.formats.items()))

    @property
    def merged(self) -> dict[str, int]:
        return dict(sorted(self.tally.merged.items()))

    def reasons(self) -> dict[str, int]:
        """Rejected lines by reason."""
        return self.tally.reasons()


def stream_conversations(
    path: Path, tally: Tally | None = None, format: str | None = None, source: str | None = None
) -> Iterator[Conversation | Rejected]:
    """Conversations (and prompts, which end with the user) of a file of any size, one by one, rejected lines among them.

    Args:
        path: JSON lines, a JSON array, LMFlow's object with `instances`, or Parquet; compressed or not.
        tally: counts along.
        format: a name of `shapes.CONVERSATIONS` (or an alias: belle, openai, lmflow, ...); null = detected value by value.
        source: what `Conversation.source` says; the file's name where null.

    Raises:
        ValueError: the format is not known.
        FileNotFoundError: as `open` does.
    """
    return _stream(path, CONVERSATIONS, PREFERENCES, tally, format, source, _conversation)


def stream_with_values(path: Path, tally: Tally) -> Iterator[tuple[int, Any, list[Conversation | Rejected]]]:
    """Each JSON value of `stream_conversations` with its line and what it gave; null for a line that is no JSON."""
    return _values(path, CONVERSATIONS, PREFERENCES, tally, None, path.name, _conversation)


def stream_preferences(
    path: Path, tally: Tally | None = None, format: str | None = None, source: str | None = None
) -> Iterator[Preference | Rejected]:
    """Prompts with their responses, best first; equal and empty responses of one prompt are left out and counted.

    Arguments and errors as `stream_conversations`; names of formats in `preference_shapes.PREFERENCES`.
    """
    return _stream(path, PREFERENCES, CONVERSATIONS, tally, format, source, _preference)


def read_conversations(path: Path, format: str | None = None, source: str | None = None) -> Reading[Conversation]:
    """All of `stream_conversations` in memory."""
    tally = Tally()
    return _collect(stream_conversations(path, tally, format, source), tally)


def read_preferences(path: Path, format: str | None = None, source: str | None = None) -> Reading[Preference]:
    """All of `stream_preferences` in memory."""
    tally = Tally()
    return _collect(stream_preferences(path, tally, format, source), tally)


def _collect(stream: Iterator[R | Rejected], tally: Tally) -> Reading[R]:
    reading: Reading[R] = Reading(tally=tally)
    for item in stream:
        if isinstance(item, Rejected):
            reading.rejected.append(item)
        else:
            reading.records.append(item)
    return reading


def _stream(
    path: Path, table: Table, other: Table, tally: Tally | None, format: str | None, source: str | None, build: Any
) -> Iterator[Any]:
    name = ALIASES.get(format or "", format) or None
    if name is not None and name not in table:
        raise ValueError(f"format {format!r} is not known; choose from {', '.join([*table, *ALIASES])}")
    return _records(path, table, other, tally or Tally(), name, source or path.name, build)


def _records(path: Path, table: Table, other: Table, tally: Tally, name: str | None, source: str, build: Any) -> Iterator[Any]:
    for _, _, made in _values(path, table, other, tally, name, source, build):
        yield from made


def _values(
    path: Path, table: Table, other: Table, tally: Tally, name: str | None, source: str, build: Any
) -> Iterator[tuple[int, Any, list[Any]]]:
    """Every JSON value, its line, and what came of it: records, or one Rejected; the value is null where the line is no JSON."""
    for item in read_values(path):
        if isinstance(item, Rejected):
            tally.values += 1
            tally.rejected[item.reason] += 1
            yield item.line, None, [item]
            continue
        for value in _instances(item.value):
            tally.values += 1
            try:
                found = _detect(value, table, other, name)
                made = [build(draft, value, source, tally.merged) for draft in table[found][1](value)]
            except Unfit as unfit:
                tally.rejected[unfit.reason] += 1
                made = [Rejected(item.line, unfit.reason, excerpt(str(value)))]
            else:
                tally.formats[found] += 1
                tally.records += len(made)
            yield item.line, value, made


def _instances(value: Any) -> list[Any]:
    """An LMFlow object that stands on one line gives its instances; any other value is itself."""
    if isinstance(value, dict) and isinstance(value.get("instances"), list) and value["instances"] and not has_any(PROMPTS)(value):
        return value["instances"]
    return [value]


def _detect(value: Any, table: Table, other: Table, name: str | None) -> str:
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
        id=record_id(draft.system, texts), source=_source(value, source), lang=language_of(value, texts),
        system=draft.system, turns=turns, labels=draft.labels,
    )  # fmt: skip


def _preference(draft: Draft, value: Object, source: str, merged: Counter[str]) -> Preference:
    turns = _turns(draft)
    if turns[-1].role != "user":
        raise Unfit("ends_with_assistant")
    assert draft.responses is not None  # every shape of PREFERENCES sets them
    kept: dict[str, int] = {}  # response -> its place in the draft
    left_out: Counter[str] = Counter()
    for place, response in enumerate(draft.responses):
        if response and response not in kept:
            kept[response] = place
        else:
            left_out["equal_response" if response else "empty_response"] += 1
    responses = list(kept)
    if len(responses) < 2:
        raise Unfit("empty_output" if left_out["empty_response"] else "equal_responses" if left_out else "unpaired")
    labels = dict(draft.labels)
    if draft.ratings is not None:
        labels["ratings"] = ratings = [draft.ratings[place] for place in kept.values()]
        if len(set(ratings)) == 1:
            raise Unfit("equal_ratings")
    texts = [turn.text for turn in turns]
    _check_text(responses)
    merged.update(left_out)
    return Preference(
        id=record_id(draft.system, [*texts, *responses]), source=_source(value, source), lang=language_of(value, texts),
        system=draft.system, turns=turns, responses=responses, labels=labels,
    )  # fmt: skip


def _turns(draft: Draft) -> list[Turn]:
    if not draft.turns:
        raise Unfit("no_turns")
    for index, (role, _) in enumerate(draft.turns):
        if role != ("user", "assistant")[index % 2]:
            raise Unfit("turns_do_not_alternate")
    _check_text([draft.system or "", *(text for _, text in draft.turns), *draft.labels, *map(str, draft.labels.values())])
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
    if not isinstance(own, str) or not own:
        return default
    _check_text([own])
    return own


def language_of(value: Object, texts: list[str]) -> str | None:
    """What the object says its language is ("zh", "zh-CN", "eng"), else what the texts' script says, the first text's first.

    A `language` may be that of a program, or an English name: only codes count. Records of this project are believed.
    """
    for key in ("lang", "language"):
        said = value.get(key)
        if isinstance(said, str) and said:
            if "turns" in value:
                _check_text([said])
                return said
            if is_language_code(code := language_code(said)):
                return code
    return script_language(texts[0]) or script_language("\n".join(texts))
