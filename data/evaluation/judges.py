"""Who compares two answers: a rule, a reward model's scores, or a teacher. All give the same lines, so all are counted alike.

A line of verdicts.jsonl: {"judge", "criterion", "set", "id", "lang", "model", "baseline", "orders", "value", "failure"}.
`orders` says who won with the model's answer first and with it second ("model", "baseline", "tie"); `value` is their average
from the model's side, a win 1, a tie 0.5 (Zheng et al. 2023, section 3.4, swap and average; PandaLM). Where a verdict failed, `value` is null and
`failure` says why. A teacher's lines also hold what it was asked (a hash) and what it said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data.evaluation.answers import Answer, Pair
from data.evaluation.questions import ask_about
from data.evaluation.settings import JudgementSettings
from data.instructions.lines import write_jsonl
from data.instructions.teacher import Completion, JournaledTeacher, Prompt, Teacher, TeacherError, Usage
from data.instructions.verdicts import read_verdict

Progress = Callable[[int, int | None, str], None]
Line = dict[str, Any]

_POINTS = {"model": 1.0, "tie": 0.5, "baseline": 0.0}
_BATCH = 64  # pairs whose verdicts are asked for together


def judge(
    pairs: Sequence[Pair], settings: JudgementSettings, teacher: Teacher | None, out: Path, work: Path, progress: Progress | None = None
) -> tuple[int, Usage]:
    """Write `out`/verdicts.jsonl, one line for each pair, judge and criterion. Returns the teacher's calls and their tokens.

    `work` holds the journal of a teacher's answers, from which a killed run goes on without asking twice.

    Raises:
        ValueError: a teacher is to judge, and there is none.
    """
    answered = [pair for pair in pairs if pair.is_answered]
    criteria = [(name, criterion) for name in settings.judges for criterion in (settings.criteria if name == "teacher" else ["overall"])]
    lines = [_line(name, criterion, pair, failure="no_answer") for pair in pairs if not pair.is_answered for name, criterion in criteria]
    calls, usage = 0, Usage()
    if "rule" in settings.judges:
        lines += by_rule(answered, settings.preferred_pattern)
    if "reward" in settings.judges:
        lines += by_reward(answered, settings.reward_margin)
    if "teacher" in settings.judges:
        if teacher is None:
            raise ValueError("judges: a teacher is to judge, and none was given")
        asking = PatientTeacher(teacher, settings.give_up_after)
        journal = JournaledTeacher(asking, work / "verdicts.journal.jsonl", settings.teacher_concurrency)
        found, usage = by_teacher(answered, settings, journal, progress)
        calls, lines = 2 * len(found), lines + found
    write_jsonl(out / "verdicts.jsonl", lines)
    return calls, usage


def by_rule(pairs: Sequence[Pair], pattern: str | None) -> Iterator[Line]:
    """In this order: right (where the right answer is known), matching the pattern, finished without repeating itself."""

    def worth(answer: Answer) -> tuple[bool, ...]:
        preferred = bool(pattern and re.search(pattern, answer.text or ""))
        return (answer.right is not False, preferred, answer.finished and not answer.repeating)

    for pair in pairs:
        one, two = worth(pair.model), worth(pair.baseline)
        winner = "tie" if one == two else "model" if one > two else "baseline"
        yield _line("rule", "overall", pair, [winner, winner])


def by_reward(pairs: Sequence[Pair], margin: float) -> Iterator[Line]:
    """The higher score, if it is higher by more than `margin`."""
    for pair in pairs:
        if pair.model.reward is None or pair.baseline.reward is None:
            yield _line("reward", "overall", pair, failure="no_reward")
            continue
        gap = pair.model.reward - pair.baseline.reward
        winner = "tie" if abs(gap) <= margin else "model" if gap > 0 else "baseline"
        yield _line("reward", "overall", pair, [winner, winner])


def by_teacher(
    pairs: Sequence[Pair], settings: JudgementSettings, teacher: JournaledTeacher, progress: Progress | None = None
) -> tuple[list[Line], Usage]:
    """Every criterion apart and in both orders, in the prompt's language. A verdict that cannot be read, was cut off or never
    came is a failure of its line."""
    tasks = ((pair, criterion) for pair in pairs for criterion in settings.criteria)
    lines: list[Line] = []
    usage, call, failed = Usage(), 0, 0
    while batch := list(islice(tasks, _BATCH)):
        asked: list[Prompt] = []
        for pair, criterion in batch:
            for first, second in ((pair.model, pair.baseline), (pair.baseline, pair.model)):
                text, lang = ask_about(pair, first.text or "", second.text or "", criterion)
                asked.append(Prompt(text, lang, call + len(asked), settings.max_tokens, settings.temperature))
        call += len(asked)
        said = teacher.complete_all(asked)
        said += [Completion("", "not_recorded")] * (len(asked) - len(said))  # a teacher that has no more to say
        usage = sum((one.usage for one in said), usage)
        for place, (pair, criterion) in enumerate(batch):
            both = slice(2 * place, 2 * place + 2)
            lines.append(_read(pair, criterion, asked[both], said[both]))
            failed += lines[-1]["failure"] is not None
        if progress is not None:
            progress(len(lines), len(pairs) * len(settings.criteria), f"{failed} failed" if failed else "judged")
    return lines, usage


def _read(pair: Pair, criterion: str, asked: Sequence[Prompt], said: Sequence[Completion]) -> Line:
    names = ({"A": "model", "B": "baseline", "TIE": "tie"}, {"A": "baseline", "B": "model", "TIE": "tie"})
    orders: list[str | None] = []
    failure = None
    for completion, name in zip(said, names, strict=True):
        verdict = read_verdict(completion.text) if completion.finish_reason == "stop" else None
        if verdict is None:
            reason = {"stop": "unreadable", "length": "cut_off", "broken": "unreadable"}.get(completion.finish_reason, completion.finish_reason)
            failure = failure or reason
        orders.append(name[verdict] if verdict else None)
    line = _line("teacher", criterion, pair, orders, failure)
    return line | {"asked": [_hash(prompt.text) for prompt in asked], "said": [completion.text for completion in said]}


def _line(judge: str, criterion: str, pair: Pair, orders: Sequence[str | None] = (None, None), failure: str | None = None) -> Line:
    value = None if failure else sum(_POINTS[str(winner)] for winner in orders) / len(orders)
    return {
        "judge": judge, "criterion": criterion, "set": pair.set, "id": pair.id, "lang": pair.lang, "model": pair.model.model,
        "baseline": pair.baseline.model, "orders": list(orders), "value": value, "failure": failure,
    }  # fmt: skip


class PatientTeacher:
    """A teacher whose failures are answers, so that one time-out does not end a judgement: `failed`, and after `give_up_after`
    in a row `not_asked`."""

    def __init__(self, teacher: Teacher, give_up_after: int) -> None:
        self._teacher, self._give_up_after, self._in_a_row = teacher, give_up_after, 0

    def complete(self, prompt: Prompt) -> Completion:
        if self._in_a_row >= self._give_up_after:
            return Completion("", "not_asked")
        try:
            completion = self._teacher.complete(prompt)
        except TeacherError as error:
            self._in_a_row += 1
            return Completion(str(error), "failed")
        self._in_a_row = 0
        return completion


class RecordedVerdicts:
    """What a teacher said in an earlier judgement (its verdicts.jsonl), found again by what is asked, whatever the order."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError, naming the line, where the file is no verdicts.jsonl."""
        self._said: dict[str, str] = {}
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    self._said |= {str(key): str(said) for key, said in zip(line.get("asked", ()), line.get("said", ()), strict=True)}
                except (ValueError, TypeError, AttributeError):
                    raise ValueError(f"{path}, line {number}: no line of a verdicts.jsonl") from None

    def __len__(self) -> int:
        return len(self._said)

    def complete(self, prompt: Prompt) -> Completion:
        said = self._said.get(_hash(prompt.text))
        return Completion("", "not_recorded") if said is None else Completion(said)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()

