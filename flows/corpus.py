"""Crawl -> clean, labelled, deduplicated corpus.

Cheap gates drop first, because extraction costs more than all the rest together. What follows only measures; one
selection decides at the end, so a changed threshold measures nothing again.
"""

from __future__ import annotations

from prefect import flow

from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks import corpus as task
from tasks.ingest import ingest
from tasks.stage import Made, Run

GATES = ("ingest", "urls", "rough_language", "extraction", "lines")
LABELS = ("lines", "language", "quality", "duplicates", "perplexity", "sensitive")


@flow(name="corpus")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    return walk(run, steps(recipe, run), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    return {
        "ingest": lambda made: ingest(run, recipe.corpus, recipe.ingest),
        "urls": lambda made: task.filter_urls(run, made["ingest"], recipe.urls),
        "rough_language": lambda made: task.check_language(run, made["urls"], recipe.language),
        "extraction": lambda made: task.extract(run, made["rough_language"], recipe.extraction),
        "quality": lambda made: task.label_quality(run, made["extraction"], recipe.quality),
        "lines": lambda made: task.clean_lines(run, made["extraction"], recipe.lines),
        "language": lambda made: task.label_language(run, made["lines"], recipe.language),
        "duplicates": lambda made: task.label_duplicates(run, made["lines"], recipe.duplicates),
        "perplexity": lambda made: task.label_perplexity(run, made["lines"], made["language"], recipe.perplexity),
        "sensitive": lambda made: task.label_sensitive(run, made["lines"], recipe.sensitive),
        "corpus": lambda made: task.select(
            run,
            made["lines"],
            {name: made[name] for name in LABELS},
            recipe.selection,
            {name: made[name] for name in GATES},
            recipe.truth,
        ),
    }
