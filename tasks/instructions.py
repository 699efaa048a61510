"""Tasks of the instruction half: self-instruct, and the split over the training steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.instructions import formats, self_instruct, splits
from data.instructions.http_teacher import HttpTeacher
from data.instructions.settings import SelfInstructSettings, SplitSettings
from data.instructions.teacher import Teacher
from tasks import show
from tasks.artifacts import Draft, Files, Result
from tasks.stage import Made, Run, make

INSTRUCTIONS_VERSION = 2
SPLITS_VERSION = 2
BUNDLED_COMPLETIONS = Path(__file__).parent.parent / "data" / "samples" / "completions.jsonl"


@task(task_run_name="instructions", cache_policy=NO_CACHE)
def write_instructions(run: Run, seed_tasks: str, settings: SelfInstructSettings) -> State[Made]:
    """Self-instruct from the seed tasks, by the recorded completions or by a teacher's server."""
    completions = Path(settings.completions or BUNDLED_COMPLETIONS)
    inputs = {"seed_tasks": Files.of(seed_tasks)}
    if settings.teacher_url is None:
        inputs["completions"] = Files.of(completions)

    def build(draft: Draft) -> Result:
        teacher: Teacher | Path = completions
        if settings.teacher_url is not None:
            teacher = HttpTeacher.from_settings(settings, draft.work / "answers")
        progress = show.Progress("instructions").count
        summary = self_instruct.run(Path(seed_tasks), teacher, settings, draft.out, draft.work, progress)
        return Result(counts=_counts(summary), metrics=summary)

    return make(run, "instructions", INSTRUCTIONS_VERSION, settings, inputs, build)


@task(task_run_name="splits", cache_policy=NO_CACHE)
def split(
    run: Run, instructions: Made, preferences: list[str], questions: str | None, settings: SplitSettings
) -> State[Made]:
    """Deal all records over the three training steps, and bring the evaluation's questions into the one record form."""
    inputs: dict[str, Made | Files] = {"instructions": instructions}
    inputs |= {f"preferences_{number}": Files.of(path) for number, path in enumerate(preferences)}
    if questions:
        inputs["questions"] = Files.of(questions)

    def build(draft: Draft) -> Result:
        conversations = run.local(instructions.artifact) / "conversations.jsonl"
        progress = show.Progress("splits").count
        summary = splits.split([Path(path) for path in preferences], [conversations], settings, draft.out, progress)
        if questions:
            reading = formats.read_conversations(Path(questions))
            formats.write_jsonl(draft.out / "questions.jsonl", reading.records)
            summary["questions"] = {"records": len(reading.records), "rejected": reading.reasons()}
        return Result(counts={}, metrics=summary)

    return make(run, "splits", SPLITS_VERSION, settings, inputs, build)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    """Every seed's instance and every generated item: kept or rejected with its reason."""
    dropped = dict(Counter(summary["rejected"]) + Counter(summary["seed_rejected"]) + Counter(summary["instances_rejected"]))
    kept = summary["conversations"]
    return {"documents_in": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}
