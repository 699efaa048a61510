"""Contamination: how many n-grams of the evaluation sets a document holds (Brown et al. 2020, appendix C).

Both sides are compared as normalised words (characters of unspaced scripts). A question too short for an n-gram counts as a whole.
A document is searched for short prefixes first: hardly any has one, so hardly any is searched for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.learned.examples import read_examples, texts_of
from data.document import label_schema, values
from data.settings import DecontaminationSettings
from data.text import Hashes, Words, ngram_hashes, normalise, scan_words
from data.unchanged import kept_while_unchanged

_SCRIPTS = ("spaced", "unspaced")

CONTAMINATION_LABELS = label_schema({"contaminated_ngrams": pa.int64()})  # different n-grams of the evaluation sets in the document


def questions_of(paths: Iterable[Path], settings: DecontaminationSettings) -> list[str]:
    """What the evaluation sets ask. Raises ValueError where a file has none of the fields."""
    found: list[str] = []
    for path in paths:
        before = len(found)
        for row in read_examples(path):
            found += texts_of(row, settings.fields)
        if len(found) == before:
            raise ValueError(f"{path}: no row has text in one of the fields {', '.join(settings.fields)}; set decontamination.fields")
    return found


def write_index(questions: Iterable[str], out: Path, settings: DecontaminationSettings) -> int:
    """Write the n-grams of the questions as one .npz: for each script and length their hashes, sorted; returns how many.

    Names: `spaced_13`, `unspaced_20`, and the prefixes of all of them, `spaced_prefix_<length>`.
    """
    grams: dict[tuple[bool, int], list[Hashes]] = {}
    for question in questions:
        found, unspaced = _scan(question)
        size = settings.ngram_characters if unspaced else settings.ngram_words
        whole = settings.whole_characters if unspaced else settings.whole_words
        if len(found) >= min(size, whole):
            length = min(size, len(found))
            grams.setdefault((unspaced, length), []).append(ngram_hashes(found.hashes, length))
            prefix = min(size, whole)
            starts = len(found) - length + 1
            grams.setdefault((unspaced, -prefix), []).append(ngram_hashes(found.hashes, prefix)[:starts])
    arrays = {_name(*key): np.unique(np.concatenate(parts)) for key, parts in grams.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return sum(len(array) for name, array in arrays.items() if "prefix" not in name)


def _name(unspaced: bool, length: int) -> str:
    script = _SCRIPTS[unspaced]
    return f"{script}_prefix_{-length}" if length < 0 else f"{script}_{length}"


def _scan(text: str) -> tuple[Words, bool]:
    found = scan_words(normalise(text))
    return found, found.mostly_unspaced


@kept_while_unchanged(2)
def _load(path: Path) -> dict[str, Hashes]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def contamination_labels(documents: pa.Table, settings: DecontaminationSettings, *, index: Path) -> pa.Table:
    """`contaminated_ngrams` of each document by the index that `write_index` left."""
    arrays = _load(index)
    counts: list[int] = []
    for text in values(documents, "text"):
        hashes = scan_words(normalise(text or "")).hashes
        counts.append(count_overlaps(hashes, arrays) if any(_has_prefix(hashes, script, arrays) for script in _SCRIPTS) else 0)
    return pa.table([documents["id"].combine_chunks(), pa.array(counts, pa.int64())], schema=CONTAMINATION_LABELS)


def _has_prefix(hashes: Hashes, script: str, arrays: dict[str, Hashes]) -> bool:
    """Whether a prefix of the index stands among these words."""
    prefixes = ((known, _length(name)) for name, known in arrays.items() if name.startswith(f"{script}_prefix_"))
    return any(len(_places(ngram_hashes(hashes, length), known)) for known, length in prefixes)


def count_overlaps(hashes: Hashes, arrays: dict[str, Hashes]) -> int:
    """How many different n-grams of the index stand in a text, given by the hashes of its words."""
    grams = {name: ngram_hashes(hashes, _length(name)) for name in arrays if "prefix" not in name}
    return sum(len(np.unique(found[_places(found, arrays[name])])) for name, found in grams.items())


def _length(name: str) -> int:
    return int(name.rsplit("_", 1)[1])


def _places(grams: Hashes, known: Hashes) -> NDArray[np.int64]:
    """Places in `grams` of those that are among `known` (sorted, distinct)."""
    if not len(known):
        return np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(known, grams), len(known) - 1)
    return np.flatnonzero(known[at] == grams)
