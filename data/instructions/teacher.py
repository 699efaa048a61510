"""Who writes the instructions: one small interface, recorded answers, and a journal that makes any teacher resumable."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data.instructions.asking import answers
from data.instructions.lines import Rejected, Value, dump, excerpt, read_values
from data.instructions.settings import TeacherSettings
from data.instructions.thoughts import without_thoughts


@dataclass(frozen=True)
class Prompt:
    """One request. `call` counts the calls of a run from 0: two calls with the same text are still two requests."""

    text: str
    lang: str
    call: int
    max_tokens: int = 1024
    temperature: float = 0.7

    def key(self) -> str:
        """Hash of all that is asked: 32 hex digits."""
        payload = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
        return hashlib.blake2b(payload, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    def report(self, settings: TeacherSettings, calls: int) -> dict[str, Any]:
        """A stage's figures of its teacher: calls, tokens, and what they cost by the settings' prices (per million)."""
        cost = (self.prompt_tokens * settings.price_prompt + self.completion_tokens * settings.price_completion) / 1e6
        return {
            "teacher_calls": calls, "teacher_tokens_in": self.prompt_tokens, "teacher_tokens_out": self.completion_tokens,
            "teacher_cost": round(cost, 6),
        }  # fmt: skip


@dataclass(frozen=True)
class Completion:
    text: str
    finish_reason: str = "stop"  # or "length" where max_tokens cut it, "content_filter" where the server will not say it, "too_long" where it cannot be asked
    usage: Usage = field(default_factory=Usage)
    lang: str | None = None  # the language asked for, where the record says so; null = the prompt's

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Exhausted(Exception):
    """The teacher has no more to say; the run ends well."""


class TeacherError(RuntimeError):
    """The teacher cannot be used: says where, why and what to do; never the key."""


class Teacher(Protocol):
    def complete(self, prompt: Prompt) -> Completion:
        """Raises Exhausted when there is no more, TeacherError when it cannot answer."""
        ...


def completion_from(value: object) -> Completion:
    """A completion from a recorded line, {"text", "finish_reason", "usage"}, without a reasoning model's thoughts. Raises ValueError."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ValueError('a recorded completion is an object with a "text"')
    given = value.get("usage")
    usage = given if isinstance(given, dict) else {}
    lang = value.get("lang")
    return Completion(
        without_thoughts(value["text"].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")),
        str(value.get("finish_reason") or "stop"),
        Usage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens")),
        lang if isinstance(lang, str) else None,
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


class RecordedTeacher:
    """Replays a file of completions, in any form that `read_values` knows: call k gets value k, whatever is asked. What is no
    completion, or not readable as UTF-8, is handed over as it stands."""

    def __init__(self, path: Path) -> None:
        self._completions = [_recorded(found) for found in read_values(path)]

    def __len__(self) -> int:
        return len(self._completions)

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= len(self._completions):
            raise Exhausted
        return self._completions[prompt.call]


_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what `read_values` makes of bytes that are no UTF-8


def _recorded(found: Value | Rejected) -> Completion:
    """`broken` where it is none: no item in it will parse, and so it is kept among the rejected."""
    if isinstance(found, Rejected):
        return Completion(found.text, "broken")
    try:
        completion = completion_from(found.value)
    except ValueError:
        return Completion(excerpt(json.dumps(found.value, ensure_ascii=False)), "broken")
    return Completion(excerpt(found.value["text"]), "broken") if _NOT_UTF8.search(found.value["text"]) else completion


class JournaledTeacher:
    """Writes every completion down before it is used, and after a kill answers from what was written.

    The loop over completions is deterministic, so the journal is the whole state of a run: replayed from its start it
    comes to the same place, asks the teacher nothing twice, and leaves the same bytes as an unbroken run. An entry whose
    prompt is not the one now asked for (other seeds, another setting) ends the replay: what follows it is cut off.
    Memory: about 200 bytes a call, what was said lies in the file.
    """

    def __init__(self, teacher: Teacher, path: Path, concurrency: int = 1) -> None:
        self._teacher = teacher
        self._concurrency = concurrency
        self._path = path
        self._written: list[tuple[str, int]] = []  # prompt key, end in bytes
        self._load()

    def __len__(self) -> int:
        return len(self._written)

    def complete(self, prompt: Prompt) -> Completion:
        found = self.complete_all([prompt])
        if not found:
            raise Exhausted
        return found[0]

    def complete_all(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The completions of calls that follow each other, `concurrency` of them asked at a time, journaled in their order.

        Shorter than `prompts` where the teacher has no more to say. A TeacherError is raised once the completions before
        it are written.
        """
        done: list[Completion] = []
        for prompt in prompts:
            if prompt.call >= len(self._written):
                break
            if self._written[prompt.call][0] != prompt.key():
                self._cut(prompt.call)
                break
            done.append(self._read(prompt.call))
        asked = prompts[len(done) :]
        if not asked:
            return done
        try:
            for prompt, completion in zip(asked, answers(self._teacher.complete, asked, self._concurrency), strict=True):
                self._append(prompt.key(), completion)
                done.append(completion)
        except Exhausted:
            pass
        return done

    def _load(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        with self._path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    completion_from(entry["completion"])
                    key = str(entry["key"])
                except (ValueError, KeyError, TypeError):
                    break  # the kill hit while this line was written
                if not line.endswith(b"\n"):
                    break
                self._written.append((key, self._end() + len(line)))
        self._cut(len(self._written))

    def _end(self) -> int:
        return self._written[-1][1] if self._written else 0

    def _read(self, call: int) -> Completion:
        with self._path.open("rb") as file:
            file.seek(self._written[call - 1][1] if call else 0)
            return completion_from(json.loads(file.readline())["completion"])

    def _cut(self, count: int) -> None:
        del self._written[count:]
        with self._path.open("ab") as file:
            file.truncate(self._end())

    def _append(self, key: str, completion: Completion) -> None:
        line = dump({"key": key, "completion": completion.as_dict()}).encode()
        with self._path.open("ab") as file:
            file.write(line)
        self._written.append((key, self._end() + len(line)))


def if_cut_off(cut_off: int, calls: int, settings: TeacherSettings) -> str:
    """The end of an error, where some of the answers were cut off."""
    return f"; {cut_off} of {calls} answers were cut off: raise max_tokens ({settings.max_tokens})" if cut_off else ""


class Calls:
    """A journaled teacher that is asked by text alone: it numbers the calls of a stage, adds up what they used, and wants every answer."""

    def __init__(self, teacher: Teacher, journal: Path, settings: TeacherSettings) -> None:
        self._teacher = JournaledTeacher(teacher, journal, settings.teacher_concurrency)
        self._settings = settings
        self.count, self.cut_off, self.usage = 0, 0, Usage()

    def ask(self, asked: Sequence[tuple[str, str]]) -> list[str]:
        """Answers to (text, language), in order; one that was cut off is empty. Raises ValueError where the teacher runs out."""
        settings = self._settings
        prompts = [
            Prompt(text, lang, self.count + place, settings.max_tokens, settings.temperature) for place, (text, lang) in enumerate(asked)
        ]
        completions = self._teacher.complete_all(prompts)
        if len(completions) < len(prompts):
            raise ValueError(f"the recorded completions end after {self.count + len(completions)} calls, and more are asked for")
        self.count += len(completions)
        for completion in completions:
            self.usage += completion.usage
            self.cut_off += completion.finish_reason == "length"
        return ["" if completion.finish_reason == "length" else completion.text.strip() for completion in completions]

    def advice(self) -> str:
        """What may be wrong where nothing came of the answers."""
        return if_cut_off(self.cut_off, self.count, self._settings)

    def report(self) -> dict[str, Any]:
        return self.usage.report(self._settings, self.count)
