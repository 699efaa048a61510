"""The labels that a recipe names are those that its stages measure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.corpus.measured import OF_DOCUMENTS, measured_labels
from data.document import DOCUMENT_SCHEMA

if TYPE_CHECKING:
    from flows.recipe import Recipe

_ANY_CLASSIFIER = {"quality_model": "any", "topic_model": "any"}


def check_labels(recipe: Recipe) -> None:
    """Raises ValueError, which names the key and the labels that there are, for a label that no stage of this run measures.

    A rule that says `if_measured` names what it likes, the card what any run may measure. `<topic>_terms` are believed where the file of
    terms does not lie on this machine.
    """
    terms = recipe.sensitive.terms_file
    try:
        here = measured_labels(recipe.classifiers, recipe.duplicates, recipe.sensitive, recipe.corpus_left_out)
        classifiers, duplicates = recipe.classifiers.model_copy(update=_ANY_CLASSIFIER), recipe.duplicates.model_copy(update={"earlier": ["any"]})
        anywhere = measured_labels(classifiers, duplicates, recipe.sensitive)
    except (OSError, ValueError) as error:
        raise ValueError(f"sensitive.terms_file: {terms}: {error}") from None
    for key, label, known in _named(recipe, here, anywhere):
        if label in known or (terms and not Path(terms).exists() and label.endswith("_terms")):
            continue
        why = "the stage that measures it has nothing to do in this run" if label in anywhere else "no stage measures this label"
        close = difflib.get_close_matches(label, sorted(known), n=1)
        raise ValueError(f"{key}: {label!r}: {why}{f' (did you mean {close[0]!r}?)' if close else ''}; labels: {', '.join(sorted(known))}")


def _named(recipe: Recipe, here: set[str], anywhere: set[str]) -> Iterator[tuple[str, str, set[str]]]:
    """Key, label, and the labels that there are for this key."""
    selection, selected = recipe.selection, here | OF_DOCUMENTS.keys()
    for place, rule in enumerate(selection.rules):
        if not rule.if_measured:
            yield f"selection.rules.{place}.label", rule.label, selected
    for place, balance in enumerate(selection.balance):
        yield f"selection.balance.{place}.label", balance.label, selected
    if selection.prefer:
        yield "selection.prefer", selection.prefer, selected
    for place, label in enumerate(recipe.card.labels):
        yield f"card.labels.{place}", label, anywhere
    for name, source in recipe.mixture.sources.items() if recipe.mixture else ():
        if source.sample and source.origin == "corpus":
            yield f"mixture.sources.{name}.sample.label", source.sample.label, here | set(DOCUMENT_SCHEMA.names)
