"""Models -> scores and samples -> report."""

from __future__ import annotations

from prefect import flow

from flows import corpus, instructions, training
from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks.artifacts import Files
from tasks.report import report
from tasks.stage import Made, Run
from tasks.training import evaluate


@flow(name="evaluation")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    """Run alone, it starts with what comes before it, which is mostly there."""
    before = dict(corpus.steps(recipe, run)) | dict(instructions.steps(recipe, run)) | dict(training.steps(recipe, run))
    return walk(run, before | dict(steps(recipe, run)), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    return {
        "evaluation": lambda made: evaluate(run, recipe.evaluation, *inputs(recipe, made)),
        "report": lambda made: report(run, recipe.name, list(recipe.training), made),
    }


def inputs(recipe: Recipe, made: dict[str, Made]) -> tuple[dict[str, Made | Files], dict[str, str]]:
    """Every trained model by its stage's kind and name in the recipe's order, the held-out splits, the questions."""
    artifacts: dict[str, Made | Files] = {f"{stage.kind}:{stage.name}": made[stage.name] for stage in recipe.training}
    folders = dict.fromkeys(artifacts, "model")
    artifacts["splits"], folders["splits"] = made["splits"], ""
    if recipe.questions:
        artifacts["questions"], folders["questions"] = made["splits"], "questions.jsonl"
    return artifacts, folders
