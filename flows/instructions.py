"""Seed tasks and user questions -> instruction sets; judged responses; all of it -> the data of each training step."""

from __future__ import annotations

from typing import Any

from flows.definition import flow
from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks.instructions import (
    judge_responses,
    sample_responses,
    split,
    write_about_topics,
    write_instructions,
)
from tasks.scoring import score_answers, write_answers
from tasks.stage import Made, Run


@flow(name="instructions", flow_run_name="instructions · {recipe.name}")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    """Write instructions, and deal all records over the training steps.

    Args:
        recipe: inputs, and the settings of every stage.
        run: where artifacts lie, and how the work is done.
        made: stages that are made already, by name: they are not walked again.
        until: the stage after which the run stops; null = it goes to its end.
    """
    return walk(run, steps(recipe, run), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    """`domain` and `judged` are there where the recipe gives them their input; who answers is a teacher or a local model's job, who
    judges a teacher or a reward model."""
    table: dict[str, Any] = {"instructions": lambda made: write_instructions(run, recipe.seed_tasks, recipe.self_instruct)}
    if recipe.domain_questions:
        table["domain"] = lambda made: write_about_topics(run, recipe.domain_questions, recipe.domain)
    if recipe.judged_prompts:
        if recipe.answer_sampling.model:
            table["answers"] = lambda made: write_answers(run, recipe.judged_prompts, recipe.sampled, recipe.answer_sampling)
        table["sampled"] = lambda made: sample_responses(run, recipe.judged_prompts, made.get("answers"), recipe.sampled)
        if recipe.answer_scoring.model:
            table["answer_scores"] = lambda made: score_answers(run, made["sampled"], recipe.answer_scoring)
        table["judged"] = lambda made: judge_responses(run, made["sampled"], made.get("answer_scores"), recipe.judged)
    sources = tuple(name for name in table if name in ("instructions", "domain", "judged"))
    table["splits"] = lambda made: split(
        run, {name: made[name] for name in sources}, recipe.preferences, recipe.questions, recipe.splits
    )
    return table
