"""Crawl -> chat model: the table of contents.

python -m flows.full_pipeline --recipe tiny
"""

from __future__ import annotations

import sys

from prefect import flow

from flows import command_line, corpus, evaluation, instructions, local, training
from flows.recipe import Recipe
from tasks.jobs import JobFailed
from tasks.report import closing_table, write_run_report
from tasks.stage import Made, Run

PARTS = (corpus, instructions, training, evaluation)


@flow(name="full_pipeline", flow_run_name="{recipe.name}")
def full_pipeline(recipe: Recipe, run: Run, until: str | None = None) -> dict[str, Made]:
    """From a raw crawl to an aligned chat model. Every stage leaves an artifact in the store; what is there is reused."""
    made: dict[str, Made] = {}
    for part in PARTS:
        made = part.pipeline(recipe, run, made, until)
        if until in made:
            break
    return made


def stage_names(recipe: Recipe, run: Run) -> list[str]:
    return [name for part in PARTS for name in part.steps(recipe, run)]


def main(arguments: list[str] | None = None) -> int:
    options = command_line.parse(sys.argv[1:] if arguments is None else arguments)
    recipe, run, until = options.checked(stage_names)
    pipeline = full_pipeline.with_options(task_runner=local.task_runner(recipe.runner))
    try:
        with local.local_run():
            made = pipeline(recipe, run, until)
    except (JobFailed, OSError, ValueError) as failure:
        print(f"\nerror: {failure}", file=sys.stderr)
        return 1
    print(closing_table(made))
    if until is None:
        for name, path in write_run_report(recipe.name, run, made).items():
            print(f"{name:11} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
