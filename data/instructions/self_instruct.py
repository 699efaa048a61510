"""Self-Instruct (Wang et al. 2023): a teacher continues lists of exemplars; what is new and sound joins the pool.

Instruction, input and output are written in one call, as Alpaca does, or (`instances`) the instances in calls of their own, as
Self-Instruct does: is it a classification task, and then its inputs and outputs, of a classification task the labels first.
The loop is deterministic given the seed tasks, the settings and the completions: every random choice is drawn from (seed,
call), and completions are journaled before they are used, so a killed run repeats no call and ends with the same bytes as
an unbroken one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.instructions.drafts import joined
from data.instructions.filters import Filters, Verdict
from data.instructions.instances import (
    Instance,
    classification_prompt,
    instance_prompt,
    parse_classification,
    parse_instances,
    sound,
)
from data.instructions.language import script_language
from data.instructions.lines import excerpt, write_json, write_jsonl
from data.instructions.parsing import Item, parse
from data.instructions.prompts import Task, prompt_text
from data.instructions.records import Conversation, Turn, record_id
from data.instructions.seeds import Seeds, read_seeds
from data.instructions.settings import SelfInstructSettings
from data.instructions.teacher import (
    Completion,
    JournaledTeacher,
    Prompt,
    RecordedTeacher,
    Teacher,
    Usage,
    if_cut_off,
)

_EXEMPLAR = 4000  # characters of one that is shown, a thousand tokens; Self-Instruct's own seed tasks have 333 in the middle, 6387 at most

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
    accepted: int = 0  # tasks
    items: int = 0
    instances: int = 0
    lists: int = 0  # calls for new tasks
    calls: int = 0  # all calls
    cut_off: int = 0  # of them, by max_tokens
    idle: int = 0  # calls for new tasks in a row that gave nothing
    usage: Usage = field(default_factory=Usage)


@dataclass
class _Pending:
    """A task whose instances are still to be asked for."""

    item: Item
    lang: str
    call: int
    is_classification: bool = False


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
        ValueError: no seed task in a language of the settings, or nothing of what a live teacher wrote was accepted.
        TeacherError: the teacher cannot be used; the journal keeps what it said before.
    """
    seeds = read_seeds(seed_tasks)
    expected = settings.max_calls
    if isinstance(teacher, Path):
        teacher = RecordedTeacher(teacher)
    if isinstance(teacher, RecordedTeacher):
        expected = min(len(teacher), expected or len(teacher))
    state = _start(seeds, settings)
    journaled = JournaledTeacher(teacher, work / "journal.jsonl", settings.teacher_concurrency)
    stopped = _loop(state, journaled, settings, expected, progress)
    summary = {**_summary(state, seeds, stopped), **state.usage.report(settings, state.calls)}
    if settings.is_live and not state.accepted:
        cut = if_cut_off(state.cut_off, state.calls, settings)
        raise ValueError(f"nothing that the teacher wrote in {state.calls} calls was accepted ({summary['rejected'] or 'it wrote no task'}){cut}")
    write_jsonl(out / "conversations.jsonl", state.conversations)
    write_jsonl(out / "rejected.jsonl", state.rejected)
    write_json(out / "summary.json", summary)
    return summary


def _start(seeds: Seeds, settings: SelfInstructSettings) -> _State:
    """The pool and the result begin with the seed tasks; their answers teach as well as generated ones do."""
    human = {lang: own for lang in settings.languages if (own := [task for task in seeds.tasks if task.lang == lang])}
    state = _State(Filters(settings), {lang: _showable(tasks) for lang, tasks in human.items()})
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


def _showable(tasks: list[Task]) -> list[Task]:
    """The tasks without those that would crowd a prompt out, if others are left."""
    short = [task for task in tasks if len(task.instruction) + len(task.input) + len(task.output) <= _EXEMPLAR]
    return short or tasks


def _loop(
    state: _State, teacher: JournaledTeacher, settings: SelfInstructSettings, expected: int | None, progress: Progress | None
) -> str:
    """Call, parse, filter, until one of the reasons that it returns."""
    languages = [lang for lang in settings.languages if lang in state.human]
    while True:
        if settings.target is not None and state.accepted >= settings.target:
            return "target"
        if settings.max_calls is not None and state.lists >= settings.max_calls:
            return "max_calls"
        if state.idle >= settings.max_idle_calls:
            return "nothing_new"
        count = min(settings.calls_at_once, (settings.max_calls or state.lists + settings.calls_at_once) - state.lists)
        prompts = [
            _prompt(state, languages[(state.lists + ahead) % len(languages)], state.calls + ahead, settings) for ahead in range(count)
        ]
        completions = _ask(state, teacher, prompts)
        pending: list[_Pending] = []
        for prompt, completion in zip(prompts, completions, strict=False):
            before = state.accepted + len(pending)
            for item in parse(completion.text, completion.finish_reason):
                if settings.target is not None and state.accepted + len(pending) >= settings.target:
                    break  # the rest of this completion is not needed, and not counted
                _take(state, item, prompt, settings, pending)
            state.lists += 1
            state.idle = 0 if state.accepted + len(pending) > before else state.idle + 1
        _second_step(state, teacher, pending, settings)
        if progress is not None and completions:
            done = state.calls if settings.instances == "in_list" else state.lists
            progress(done, expected, f"{state.accepted} accepted, {state.items - state.accepted} rejected")
        if len(completions) < len(prompts):
            return "teacher_exhausted"


def _ask(state: _State, teacher: JournaledTeacher, prompts: list[Prompt]) -> list[Completion]:
    completions = teacher.complete_all(prompts)
    state.calls += len(completions)
    for completion in completions:
        state.usage += completion.usage
        state.cut_off += completion.finish_reason == "length"
    return completions


def _prompt(state: _State, lang: str, call: int, settings: SelfInstructSettings) -> Prompt:
    rng = random.Random(f"{settings.seed}:{call}")  # noqa: S311  # no secret
    human, generated = state.human[lang], state.generated.get(lang, [])
    chosen = rng.sample(generated, min(settings.exemplars_generated, len(generated)))
    # While there are few generated ones, human exemplars take their place.
    wanted = settings.exemplars_human + settings.exemplars_generated - len(chosen)
    chosen += rng.sample(human, min(wanted, len(human)))
    rng.shuffle(chosen)
    text = prompt_text(chosen, lang, settings.tasks_per_call, bare=settings.instances == "apart")
    return Prompt(text, lang, call, settings.max_tokens, settings.temperature)


def _take(state: _State, item: Item, prompt: Prompt, settings: SelfInstructSettings, pending: list[_Pending]) -> None:
    """Decide on one item of a list; one that waits for its instances joins `pending`."""
    state.items += 1
    lang = script_language(item.instruction) or prompt.lang
    waits = settings.instances == "apart" or (settings.instances == "missing" and item.reason == "no_output")
    verdict = state.filters.decide_instruction(item) if waits else state.filters.decide(item)
    if verdict.reason is not None:
        state.rejected.append(_rejection(item, verdict, prompt.call))
    elif waits:
        state.filters.remember_instruction(item.instruction)
        pending.append(_Pending(item, lang if lang in state.human else prompt.lang, prompt.call))
    else:
        assert item.output is not None  # an item without is rejected as no_output
        _accept(state, Task(item.instruction, item.input, item.output, lang), {"call": prompt.call, "item": item.position})
        state.accepted += 1


def _accept(state: _State, task: Task, labels: dict[str, int]) -> None:
    state.filters.remember(task.instruction, task.input, task.output)
    state.generated.setdefault(task.lang, []).append(task)
    state.conversations.append(_conversation(task, "self_instruct", labels))
    state.instances += 1


# ---- the second step: instances ----------------------------------------------------------------------------------


def _second_step(state: _State, teacher: JournaledTeacher, pending: list[_Pending], settings: SelfInstructSettings) -> None:
    """Ask for the kind of the pending tasks, then for the instances of each; keep what is sound."""
    if not pending:
        return
    _classify(state, teacher, pending, settings)
    prompts = []
    for ahead, task in enumerate(pending):
        text = instance_prompt(
            task.item.instruction, task.is_classification, _examples(state, task.lang, task.is_classification), task.lang, settings.max_instances
        )
        prompts.append(Prompt(text, task.lang, state.calls + ahead, settings.max_tokens, settings.temperature))
    completions = _ask(state, teacher, prompts)
    for number, task in enumerate(pending):
        found: list[Instance] = []
        if number < len(completions):
            completion = completions[number]
            found = parse_instances(completion.text, completion.finish_reason, task.is_classification)
        _keep_instances(state, task, sound(found, settings.max_instances))


def _classify(state: _State, teacher: JournaledTeacher, pending: list[_Pending], settings: SelfInstructSettings) -> None:
    """One call for the pending tasks of each language."""
    by_language = {lang: [task for task in pending if task.lang == lang] for lang in settings.languages}
    asked = {lang: tasks for lang, tasks in by_language.items() if tasks}
    prompts = []
    for ahead, (lang, tasks) in enumerate(asked.items()):
        examples = [*_examples(state, lang, True), *_examples(state, lang, False)]
        text = classification_prompt([task.item.instruction for task in tasks], examples, lang)
        prompts.append(Prompt(text, lang, state.calls + ahead, settings.max_tokens, 0.0))
    for tasks, completion in zip(asked.values(), _ask(state, teacher, prompts), strict=False):
        for task, kind in zip(tasks, parse_classification(completion.text, len(tasks)), strict=True):
            task.is_classification = kind


def _examples(state: _State, lang: str, is_classification: bool, most: int = 4) -> list[Task]:
    """Seed tasks of one kind: the first of the file, the same in every prompt."""
    return [task for task in state.human[lang] if task.is_classification is is_classification][:most]


def _keep_instances(state: _State, task: _Pending, instances: list[Instance]) -> None:
    kept = 0
    for number, instance in enumerate(instances):
        if instance.reason is not None:
            shown = "\n".join(filter(None, (task.item.instruction, instance.input, instance.output)))
            place = {"call": task.call, "item": task.item.position, "instance": number}
            state.rejected.append({"source": "instance", **place, "reason": instance.reason, "value": None, "text": shown})
            continue
        made = Task(task.item.instruction, instance.input, instance.output, task.lang, task.is_classification)
        _accept(state, made, {"call": task.call, "item": task.item.position, "instance": number})
        kept += 1
    if kept:
        state.accepted += 1
    else:
        state.rejected.append(_rejection(task.item, Verdict("no_instance", str(len(instances))), task.call))


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
    """Counts add up: items = accepted + rejected; conversations = seed conversations + instances."""
    generated = [line for line in state.rejected if line["source"] == "self_instruct"]
    instances = [line for line in state.rejected if line["source"] == "instance"]
    at_seed = [line for line in state.rejected if line["source"] == "seed"]
    return {
        "seed_tasks": len(seeds.tasks),
        "seed_conversations": len(state.conversations) - state.instances,
        "seed_rejected": _by_reason(at_seed),
        "stopped": stopped,
        "items": state.items,
        "accepted": state.accepted,
        "rejected": _by_reason(generated),
        "instances": state.instances,
        "instances_rejected": _by_reason(instances),
        "conversations": len(state.conversations),
        "languages": dict(sorted(Counter(record.lang or "" for record in state.conversations).items())),
    }


def _by_reason(lines: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(str(line["reason"]) for line in lines).items()))
