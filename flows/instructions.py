"""Seed tasks -> instruction set; instructions and preferences -> the data of each training step."""

from __future__ import annotations

from prefect import flow

from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks.instructions import split, write_instructions
from tasks.stage import Made, Run


@flow(name="instructions")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    return walk(run, steps(recipe, run), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    return {
        "instructions": lambda made: write_instructions(run, recipe.seed_tasks, recipe.self_instruct),
        "splits": lambda made: split(run, made["instructions"], recipe.preferences, recipe.questions, recipe.splits),
    }
