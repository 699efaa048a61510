"""Crawl -> clean, labelled, deduplicated corpus.

Cheap gates drop first, because extraction costs more than all the rest together. What follows only measures; one
selection decides at the end, so a changed threshold measures nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping

from flows import local
from flows.definition import flow
from flows.recipe import Recipe
from flows.steps import Step, Steps, walk
from tasks import corpus as task
from tasks.ingest import ingest
from tasks.scoring import score_documents
from tasks.stage import Made, Run

GATES = ("ingest", "urls", "rough_language", "extraction", "lines")
LABELS = ("lines", "language", "quality", "classifiers", "duplicates", "perplexity", "buckets", "sensitive", "decontamination")


def measured(made: Mapping[str, Made]) -> dict[str, Made]:
    return {name: made[name] for name in LABELS if name in made}


@flow(name="corpus", flow_run_name="corpus · {recipe.name}")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    """Clean a crawl.

    Args:
        recipe: inputs, and the settings of every stage.
        run: where artifacts lie, and how the work is done.
        made: stages that are made already, by name: they are not walked again.
        until: the stage after which the run stops; null = it goes to its end.
    """
    with local.workers(recipe.runner):
        return walk(run, steps(recipe, run), made, until)


def steps(recipe: Recipe, run: Run) -> Steps:
    """All stages but those that the recipe gives nothing to do."""
    every: dict[str, Step] = {
        "ingest": lambda made: ingest(run, recipe.corpus, recipe.ingest),
        "urls": lambda made: task.filter_urls(run, made["ingest"], recipe.urls),
        "rough_language": lambda made: task.check_language(run, made["urls"], recipe.language),
        "extraction": lambda made: task.extract(run, made["rough_language"], recipe.extraction),
        "quality": lambda made: task.label_quality(run, made["extraction"], recipe.quality),
        "lines": lambda made: task.clean_lines(run, made["extraction"], recipe.lines),
        "language": lambda made: task.label_language(run, made["lines"], recipe.language),
        "classifiers": lambda made: task.classify(run, made["lines"], recipe.classifiers),
        "signatures": lambda made: task.sign(run, made["lines"], recipe.duplicates.signatures),
        "duplicates": lambda made: task.label_duplicates(run, made["lines"], made["signatures"], recipe.duplicates),
        "scoring": lambda made: score_documents(run, made["lines"], recipe.scoring),
        "perplexity": lambda made: task.label_perplexity(run, made["lines"], made["language"], made.get("scoring"), recipe.perplexity, recipe.language.languages),
        "buckets": lambda made: task.label_buckets(run, made["perplexity"], recipe.buckets),
        "sensitive": lambda made: task.label_sensitive(run, made["lines"], recipe.sensitive),
        "decontamination": lambda made: task.label_contamination(run, made["lines"], recipe.asked, recipe.decontamination),
        "corpus": lambda made: task.select(
            run,
            made["lines"],
            measured(made),
            made["signatures"],
            recipe.selection,
            recipe.duplicates.signatures,
            {name: made[name] for name in GATES},
            recipe.truth,
        ),
        "card": lambda made: task.describe(run, made["corpus"], {name: made[name] for name in GATES}, measured(made), recipe.card),
    }
    return {name: step for name, step in every.items() if name not in recipe.corpus_left_out}
