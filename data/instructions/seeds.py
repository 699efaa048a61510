"""Seed tasks: the human-written instructions that a run starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data.instructions.drafts import INPUTS, PROMPTS, Object, first_of
from data.instructions.formats import Rejected, Tally, language_of, stream_with_values, why_nothing
from data.instructions.lines import excerpt
from data.instructions.prompts import Task
from data.instructions.records import Conversation


@dataclass
class Seeds:
    """`tasks`: what exemplars are drawn from, one per instance; `rejected`: lines and conversations that are none."""

    tasks: list[Task] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def read_seeds(path: Path) -> Seeds:
    """Seed tasks in Self-Instruct's format, or in any other whose records are a request and its answer.

    Raises:
        ValueError: the file holds no seed task; says how many lines were rejected and why.
    """
    seeds, tally = Seeds(), Tally()
    for line, value, made in stream_with_values(path, tally):
        for number, item in enumerate(made):
            if isinstance(item, Rejected):
                seeds.rejected.append(item)
            elif len(item.turns) != 2:
                reason = "no_answer" if len(item.turns) == 1 else "several_turns"
                tally.rejected[reason] += 1
                seeds.rejected.append(Rejected(line, reason, excerpt(item.turns[0].text)))
            else:
                seeds.tasks.append(_task(item, value, value["instances"][number] if "instances" in value else value))
    if not seeds.tasks:
        raise ValueError(f"{path} holds no seed task ({why_nothing(tally.reasons())}); a seed task has an instruction and instances of input and output")
    return seeds


def _task(record: Conversation, value: Object, instance: Object) -> Task:
    """The request apart from its material where the record was joined from them."""
    asked, answer = (turn.text for turn in record.turns)
    request, given = first_of(value, PROMPTS), first_of(instance, INPUTS)
    if isinstance(request, str) and isinstance(given, str) and asked == f"{request.strip()}\n{given.strip()}":
        request, given = request.strip(), given.strip()
    else:
        request, given = asked, ""
    kind = value.get("is_classification")
    return Task(request, given, answer, language_of(value, [request, asked]) or "en", kind if isinstance(kind, bool) else None)
