"""Seed tasks and user questions -> instruction sets; judged responses; all of it -> the data of each training step."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks.instructions import judge_responses, split, write_about_topics, write_instructions
from tasks.stage import Made, Run


@flow(name="instructions")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    return walk(run, steps(recipe, run), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    """`domain` and `judged` are there where the recipe gives them their input."""
    table: dict[str, Any] = {"instructions": lambda made: write_instructions(run, recipe.seed_tasks, recipe.self_instruct)}
    if recipe.domain_questions:
        table["domain"] = lambda made: write_about_topics(run, recipe.domain_questions, recipe.domain)
    if recipe.judged_prompts:
        table["judged"] = lambda made: judge_responses(run, recipe.judged_prompts, recipe.judged)
    sources = tuple(table)
    table["splits"] = lambda made: split(
        run, {name: made[name] for name in sources}, recipe.preferences, recipe.questions, recipe.splits
    )
    return table
