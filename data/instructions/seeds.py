"""Seed tasks: the human-written instructions that a run starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.instructions.formats import Rejected, read_conversations
from data.instructions.language import script_language
from data.instructions.lines import Value, read_values
from data.instructions.prompts import Task
from data.instructions.records import Conversation
from data.instructions.shapes import NO_INPUT


@dataclass(frozen=True)
class Seeds:
    """`tasks`: what exemplars are drawn from, one per instance; `conversations`: the same as training data."""

    tasks: list[Task]
    conversations: list[Conversation]
    rejected: list[Rejected]
    lines: int


def read_seeds(path: Path) -> Seeds:
    """Seed tasks in Self-Instruct's format (or any instruction format whose record has an `instruction`).

    Raises:
        ValueError: the file holds no seed task; says how many lines were rejected and why.
    """
    reading = read_conversations(path)
    rejected = {line.line for line in reading.rejected}
    tasks = []
    for item in read_values(path):
        if isinstance(item, Value) and item.line not in rejected and isinstance(item.value.get("instruction"), str):
            tasks += _tasks(item.value)
    if not tasks:
        why = ", ".join(f"{count} {reason}" for reason, count in reading.reasons().items()) or "it is empty"
        raise ValueError(f"{path} holds no seed task ({why}); a seed task has an instruction and instances of input and output")
    return Seeds(tasks, reading.records, reading.rejected, reading.values)


def _tasks(value: dict[str, object]) -> list[Task]:
    instruction = str(value["instruction"]).strip()
    lang = value.get("lang")
    language = lang if isinstance(lang, str) and lang else script_language(instruction) or "en"
    kind = value.get("is_classification")
    instances = value.get("instances")
    tasks = []
    for instance in instances if isinstance(instances, list) else [value]:
        given = str(instance.get("input") or "").strip()
        material = "" if NO_INPUT.fullmatch(given) else given
        classification = kind if isinstance(kind, bool) else None
        tasks.append(Task(instruction, material, str(instance["output"]).strip(), language, classification))
    return tasks
