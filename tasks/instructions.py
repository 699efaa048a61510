"""Tasks of the instruction half: self-instruct, instructions about topics, judged responses, the split over the training steps."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.instructions import judging, sampling, self_instruct, splits, synthesis
from data.instructions.embeddings import HttpEmbedder
from data.instructions.settings import (
    JudgeSettings,
    SampleSettings,
    SelfInstructSettings,
    SplitSettings,
    TopicSettings,
)
from tasks import show
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Files, Result
from tasks.teachers import teacher_of

INSTRUCTIONS_VERSION = 4
SPLITS_VERSION = 4
TOPICS_VERSION = 3
SAMPLED_VERSION = 3
JUDGED_VERSION = 4
BUNDLED_COMPLETIONS = Path(__file__).parent.parent / "data" / "samples" / "completions.jsonl"


@task(task_run_name="instructions", cache_policy=NO_CACHE)
def write_instructions(run: Run, seed_tasks: str, settings: SelfInstructSettings) -> State[Made]:
    """Self-instruct from the seed tasks, by the recorded completions or by a teacher's server."""
    inputs = {"seed_tasks": Files.of(seed_tasks)}
    if not settings.is_live:
        inputs["completions"] = Files.of(settings.completions or BUNDLED_COMPLETIONS)

    def build(draft: Draft) -> Result:
        progress = show.Progress("instructions").count
        with teacher_of(settings, draft.work, BUNDLED_COMPLETIONS) as teacher:
            summary = self_instruct.run(Path(seed_tasks), teacher, settings, draft.out, draft.work, progress)
        return Result(counts=_counts(summary), metrics=summary)

    return make(run, "instructions", INSTRUCTIONS_VERSION, settings, inputs, build)


@task(task_run_name="domain", cache_policy=NO_CACHE)
def write_about_topics(run: Run, questions: str, settings: TopicSettings) -> State[Made]:
    """User questions (or documents) in, a domain instruction set out."""

    def build(draft: Draft) -> Result:
        progress = show.Progress("domain").count
        with ExitStack() as open_:
            embedder = open_.enter_context(closing(HttpEmbedder(settings, draft.work / "embeddings"))) if settings.embedder_url else None
            teacher = open_.enter_context(teacher_of(settings, draft.work))
            summary = synthesis.run(Path(questions), teacher, settings, draft.out, draft.work, progress, embedder.embed if embedder else None)
        dropped = dict(Counter(summary["rejected"]) + Counter(summary["answers_rejected"]))
        kept = summary["conversations"]
        return Result(counts={"documents_in": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}, metrics=summary)

    return make(run, "domain", TOPICS_VERSION, settings, {"questions": Files.of(questions)}, build)


@task(task_run_name="sampled", cache_policy=NO_CACHE)
def sample_responses(run: Run, prompts: str, answers: Made | None, settings: SampleSettings) -> State[Made]:
    """Several responses to each prompt: those of the job `answers`, or of the model that the settings name as teacher."""
    inputs: dict[str, Made | Files] = {"prompts": Files.of(prompts)} | ({"answers": answers} if answers else {})

    def build(draft: Draft) -> Result:
        progress = show.Progress("sampled").count
        said = run.local(answers.artifact) / "completions.jsonl" if answers else None
        with teacher_of(settings, draft.work, said) as policy:
            summary = sampling.sample(Path(prompts), policy, settings, draft.out, draft.work, progress)
        return Result(counts={}, metrics=summary)

    return make(run, "sampled", SAMPLED_VERSION, settings, inputs, build)


@task(task_run_name="judged", cache_policy=NO_CACHE)
def judge_responses(run: Run, sampled: Made, scores: Made | None, settings: JudgeSettings) -> State[Made]:
    """Sampled responses ranked by a reward model's `scores`, or by the teacher: preference records."""
    inputs = {"sampled": sampled} | ({"scores": scores} if scores else {})

    def build(draft: Draft) -> Result:
        samples = run.local(sampled.artifact) / "samples.jsonl"
        progress = show.Progress("judged").count
        if scores:
            summary = judging.judge_by_scores(samples, run.local(scores.artifact) / "scores.jsonl", settings, draft.out, progress)
        else:
            with teacher_of(settings, draft.work) as teacher:
                summary = judging.judge(samples, teacher, settings, draft.out, draft.work, progress)
        return Result(counts={}, metrics=summary)

    return make(run, "judged", JUDGED_VERSION, settings, inputs, build)


@task(task_run_name="splits", cache_policy=NO_CACHE)
def split(
    run: Run, written: dict[str, Made], preferences: list[str], questions: str | None, settings: SplitSettings
) -> State[Made]:
    """Deal all records over the three training steps, and bring the evaluation's questions into the one record form.

    `written` are the stages whose records join the files: conversations.jsonl, or preferences.jsonl of judged ones.
    """
    inputs: dict[str, Made | Files] = dict(written)
    inputs |= {f"preferences_{number}": Files.of(path) for number, path in enumerate(preferences)}
    if questions:
        inputs["questions"] = Files.of(questions)

    def build(draft: Draft) -> Result:
        folders = [run.local(made.artifact) for made in written.values()]
        ranked = [Path(path) for path in preferences] + [found for folder in folders if (found := folder / "preferences.jsonl").is_file()]
        instructions = [found for folder in folders if (found := folder / "conversations.jsonl").is_file()]
        progress = show.Progress("splits").count
        summary = splits.split(ranked, instructions, settings, draft.out, progress)
        if questions:
            summary["questions"] = splits.bring_questions(Path(questions), draft.out)
        return Result(counts={}, metrics=summary)

    return make(run, "splits", SPLITS_VERSION, settings, inputs, build)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    """Every seed's instance and every generated item: kept or rejected with its reason."""
    dropped = dict(Counter(summary["rejected"]) + Counter(summary["seed_rejected"]) + Counter(summary["instances_rejected"]))
    kept = summary["conversations"]
    return {"documents_in": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}
