"""Self-Instruct (Wang et al. 2023): a teacher continues lists of exemplars; what is new and sound joins the pool.

Instruction, input and output are written in one call, as Alpaca does. The loop is deterministic given the seed tasks,
the settings and the completions: every random choice is drawn from (seed, call), and completions are journaled before
they are used, so a killed run repeats no call and ends with the same bytes as an unbroken one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.instructions.filters import Filters, Verdict
from data.instructions.language import script_language
from data.instructions.lines import excerpt, write_json, write_jsonl
from data.instructions.parsing import Item, parse
from data.instructions.prompts import Task, prompt_text
from data.instructions.records import Conversation, Turn, record_id
from data.instructions.seeds import Seeds, read_seeds
from data.instructions.settings import SelfInstructSettings
from data.instructions.shapes import joined
from data.instructions.teacher import Exhausted, JournaledTeacher, Prompt, RecordedTeacher, Teacher, Usage

# (calls done, calls expected or None, what was found so far)
Progress = Callable[[int, int | None, str], None]


@dataclass
class _State:
    """What the loop knows after each call."""

    filters: Filters
    human: dict[str, list[Task]]
    generated: dict[str, list[Task]] = field(default_factory=dict)
    conversations: list[Conversation] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    accepted: int = 0
    items: int = 0
    calls: int = 0
    idle: int = 0  # calls in a row that gave nothing
    usage: Usage = field(default_factory=Usage)


def run(
    seed_tasks: Path,
    teacher: Teacher | Path,
    settings: SelfInstructSettings,
    out: Path,
    work: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write conversations.jsonl, rejected.jsonl and summary.json to `out`; return the summary.

    Args:
        teacher: a Teacher, or a file of recorded completions.
        work: holds journal.jsonl, from which a killed run goes on; of no use once `out` is whole.

    Raises:
        ValueError: no seed task in a language of the settings, or no item was accepted at all.
        TeacherError: the teacher cannot be used; the journal keeps what it said before.
    """
    seeds = read_seeds(seed_tasks)
    expected = settings.max_calls
    if isinstance(teacher, Path):
        teacher = RecordedTeacher(teacher)
        expected = min(len(teacher), expected or len(teacher))
    state = _start(seeds, settings)
    stopped = _loop(state, JournaledTeacher(teacher, work / "journal.jsonl"), settings, expected, progress)
    summary = _summary(state, seeds, stopped)
    write_jsonl(out / "conversations.jsonl", state.conversations)
    write_jsonl(out / "rejected.jsonl", state.rejected)
    write_json(out / "summary.json", summary)
    return summary


def _start(seeds: Seeds, settings: SelfInstructSettings) -> _State:
    """The pool and the result begin with the seed tasks; their answers teach as well as generated ones do."""
    human: dict[str, list[Task]] = {lang: [] for lang in settings.languages}
    for task in seeds.tasks:
        if task.lang in human:
            human[task.lang].append(task)
    state = _State(Filters(settings), {lang: tasks for lang, tasks in human.items() if tasks})
    if not state.human:
        found = ", ".join(sorted({task.lang for task in seeds.tasks}))
        raise ValueError(f"no seed task in {', '.join(settings.languages)}; the seed tasks are in {found}")
    for line in seeds.rejected:
        state.rejected.append({"source": "seed", **line.as_dict()})
    known = set()
    for task in seeds.tasks:
        state.filters.remember(task.instruction, task.input, task.output)
        conversation = _conversation(task, "seed", {})
        if task.lang in state.human and conversation.id not in known:
            known.add(conversation.id)
            state.conversations.append(conversation)
        else:
            reason = "wrong_language" if task.lang not in state.human else "duplicate"
            state.rejected.append({"source": "seed", "reason": reason, "text": excerpt(task.instruction)})
    return state


def _loop(
    state: _State, teacher: Teacher, settings: SelfInstructSettings, expected: int | None, progress: Progress | None
) -> str:
    """Call, parse, filter, until one of the reasons that it returns."""
    languages = [lang for lang in settings.languages if lang in state.human]
    while True:
        if settings.target is not None and state.accepted >= settings.target:
            return "target"
        if settings.max_calls is not None and state.calls >= settings.max_calls:
            return "max_calls"
        if state.idle >= settings.max_idle_calls:
            return "nothing_new"
        prompt = _prompt(state, languages[state.calls % len(languages)], settings)
        try:
            completion = teacher.complete(prompt)
        except Exhausted:
            return "teacher_exhausted"
        before = state.accepted
        state.usage += completion.usage
        for item in parse(completion.text, completion.finish_reason):
            if settings.target is not None and state.accepted >= settings.target:
                break  # the rest of this completion is not needed, and not counted
            _take(state, item, prompt.lang)
        state.calls += 1
        state.idle = 0 if state.accepted > before else state.idle + 1
        if progress is not None:
            progress(state.calls, expected, f"{state.accepted} accepted, {state.items - state.accepted} rejected")


def _prompt(state: _State, lang: str, settings: SelfInstructSettings) -> Prompt:
    rng = random.Random(f"{settings.seed}:{state.calls}")  # noqa: S311  # no secret
    human, generated = state.human[lang], state.generated.get(lang, [])
    chosen = rng.sample(generated, min(settings.exemplars_generated, len(generated)))
    # While there are few generated ones, human exemplars take their place.
    wanted = settings.exemplars_human + settings.exemplars_generated - len(chosen)
    chosen += rng.sample(human, min(wanted, len(human)))
    rng.shuffle(chosen)
    text = prompt_text(chosen, lang, settings.tasks_per_call)
    return Prompt(text, lang, state.calls, settings.max_tokens, settings.temperature)


def _take(state: _State, item: Item, asked: str) -> None:
    verdict = state.filters.decide(item)
    state.items += 1
    if verdict.reason is not None:
        state.rejected.append(_rejection(item, verdict, state.calls))
        return
    assert item.output is not None  # an item without is rejected as no_output
    lang = script_language(item.instruction) or asked
    task = Task(item.instruction, item.input, item.output, lang)
    state.filters.remember(task.instruction, task.input, task.output)
    state.generated.setdefault(lang, []).append(task)
    state.conversations.append(_conversation(task, "self_instruct", {"call": state.calls, "item": item.position}))
    state.accepted += 1


def _conversation(task: Task, source: str, labels: dict[str, int]) -> Conversation:
    prompt = joined(task.instruction, task.input)
    all_labels: dict[str, str | float | int | bool | None] = {**labels}
    if task.is_classification is not None:
        all_labels["is_classification"] = task.is_classification
    return Conversation(
        id=record_id(None, [prompt, task.output]), source=source, lang=task.lang, labels=all_labels,
        turns=[Turn(role="user", text=prompt), Turn(role="assistant", text=task.output)],
    )  # fmt: skip


def _rejection(item: Item, verdict: Verdict, call: int) -> dict[str, Any]:
    return {
        "source": "self_instruct", "call": call, "item": item.position, "reason": verdict.reason, "value": verdict.value,
        "text": item.text,
    }  # fmt: skip


def _summary(state: _State, seeds: Seeds, stopped: str) -> dict[str, Any]:
    """Counts add up: items = accepted + rejected; conversations = seed conversations + accepted."""
    generated = [line for line in state.rejected if line["source"] == "self_instruct"]
    at_seed = [line for line in state.rejected if line["source"] == "seed"]
    return {
        "seed_tasks": len(seeds.tasks),
        "seed_conversations": len(state.conversations) - state.accepted,
        "seed_rejected": _by_reason(at_seed),
        "calls": state.calls,
        "stopped": stopped,
        "items": state.items,
        "accepted": state.accepted,
        "rejected": _by_reason(generated),
        "conversations": len(state.conversations),
        "languages": dict(sorted(Counter(record.lang or "" for record in state.conversations).items())),
        "tokens": {"prompt": state.usage.prompt_tokens, "completion": state.usage.completion_tokens},
    }


def _by_reason(lines: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(str(line["reason"]) for line in lines).items()))
