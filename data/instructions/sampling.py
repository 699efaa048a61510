"""Responses sampled from a model, several to a prompt: what a judge or a reward model then ranks (`judging`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from data.instructions.filters import same_text
from data.instructions.formats import Rejected, stream_conversations
from data.instructions.lines import read_values, write_json, write_jsonl
from data.instructions.records import Conversation, record_id
from data.instructions.self_instruct import Progress
from data.instructions.settings import SampleSettings
from data.instructions.teacher import Calls, Teacher

_BATCH = 16  # prompts that are asked together


class Sampled(Conversation):
    """A prompt and its distinct responses, in the order in which they were sampled."""

    responses: list[str] = Field(min_length=2)


def sample(
    prompts: Path, policy: Teacher, settings: SampleSettings, out: Path, work: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Write samples.jsonl, rejected.jsonl and summary.json to `out`; return the summary.

    Args:
        prompts: conversations in any layout; an answered one is a prompt without its last answer.
        policy: the model whose responses are wanted.
        work: holds a journal of the responses, from which a killed run goes on.

    Raises:
        ValueError: no prompt, or none with two distinct responses.
        TeacherError: the policy cannot be used.
    """
    calls = Calls(policy, work / "samples.jsonl", settings)
    rejected: list[dict[str, Any]] = []
    stream = islice(_prompts(prompts, rejected), settings.max_prompts)
    asked = 0

    def sampled() -> Iterator[Sampled]:
        nonlocal asked
        while batch := list(islice(stream, _BATCH)):
            asked += len(batch)
            yield from _respond(batch, calls, settings.responses, rejected)
            if progress is not None:
                progress(asked, settings.max_prompts, f"{asked} prompts answered")

    kept = write_jsonl(out / "samples.jsonl", sampled())
    reasons = dict(sorted(Counter(str(line["reason"]) for line in rejected).items()))
    if not kept:
        raise ValueError(f"no two responses came of any of the {asked} prompts of {prompts} ({reasons or 'it is empty'}){calls.advice()}")
    summary = {"prompts": asked, "sampled": kept, "rejected": reasons, **calls.report()}
    write_jsonl(out / "rejected.jsonl", rejected)
    write_json(out / "summary.json", summary)
    return summary


def write_prompts(prompts: Path, settings: SampleSettings, out: Path) -> int:
    """The prompts that `sample` asks, in its order, as records: for a job that answers them. Returns how many.

    Raises:
        ValueError: there is none.
    """
    rejected: list[dict[str, Any]] = []
    count = write_jsonl(out, islice(_prompts(prompts, rejected), settings.max_prompts))
    if not count:
        raise ValueError(f"{prompts} holds no prompt ({dict(Counter(str(line['reason']) for line in rejected)) or 'it is empty'})")
    return count


def read_samples(path: Path) -> Iterator[Sampled]:
    """What `sample` wrote. Raises ValueError where it is something else."""
    for line in read_values(path):
        if isinstance(line, Rejected):
            raise ValueError(f"{path}, line {line.line}: {line.reason}")
        yield Sampled.model_validate(line.value)


def shown(prompt: Conversation) -> str:
    """What a model is asked. A history is shown as a transcript: the teachers' interface takes one text."""
    if len(prompt.turns) == 1 and prompt.system is None:
        return prompt.turns[0].text
    names = {"user": "User", "assistant": "Assistant"}
    lines = [prompt.system] if prompt.system else []
    return "\n\n".join([*lines, *(f"{names[turn.role]}: {turn.text}" for turn in prompt.turns), "Assistant:"])


def _respond(prompts: Sequence[Conversation], policy: Calls, count: int, rejected: list[dict[str, Any]]) -> Iterator[Sampled]:
    """Responses to each prompt; empty, cut off and equal ones are left out, and prompts with fewer than two."""
    texts = policy.ask([(shown(prompt), prompt.lang or "en") for prompt in prompts for _ in range(count)])
    for number, prompt in enumerate(prompts):
        distinct: list[str] = []
        for text in texts[number * count : (number + 1) * count]:
            if text and not any(same_text(text, other) for other in distinct):
                distinct.append(text)
        if len(distinct) < 2:
            rejected.append({"source": "sampling", "reason": "too_few_responses", "text": prompt.turns[-1].text})
        else:
            yield Sampled(**prompt.model_dump(), responses=distinct)


def _prompts(path: Path, rejected: list[dict[str, Any]]) -> Iterator[Conversation]:
    """Each prompt once."""
    seen: set[str] = set()
    for record in stream_conversations(path):
        if isinstance(record, Rejected):
            rejected.append({"source": "prompts", **record.as_dict()})
            continue
        turns = record.turns if record.turns[-1].role == "user" else record.turns[:-1]
        key = record_id(record.system, [turn.text for turn in turns])
        if key not in seen:
            seen.add(key)
            yield record.model_copy(update={"turns": turns})
