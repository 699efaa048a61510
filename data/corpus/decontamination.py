"""Contamination: how many n-grams of the evaluation sets a document holds (Brown et al. 2020, appendix C).

Both sides are compared as normalised words (characters of unspaced scripts). A question too short for an n-gram counts as a whole.
A document is searched for short prefixes first: hardly any has one, so hardly any is searched for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.corpus.examples import read_examples, texts_of
from data.document import label_schema, values
from data.settings import DecontaminationSettings
from data.text import Hashes, Words, ngram_hashes, normalise, scan_words

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
    script = "unspaced" if unspaced else "spaced"
    return f"{script}_prefix_{-length}" if length < 0 else f"{script}_{length}"


def _scan(text: str) -> tuple[Words, bool]:
    found = scan_words(normalise(text))
    return found, int(found.unspaced.sum()) * 2 > len(found)


@lru_cache(maxsize=2)
def _load(path: Path) -> dict[str, Hashes]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def contamination_labels(documents: pa.Table, settings: DecontaminationSettings, *, index: Path) -> pa.Table:
    """`contaminated_ngrams` of each document by the index that `write_index` left."""
    arrays = _load(index)
    counts = [count_overlaps(text or "", arrays) for text in values(documents, "text")]
    return pa.table([documents["id"].combine_chunks(), pa.array(counts, pa.int64())], schema=CONTAMINATION_LABELS)


def count_overlaps(text: str, arrays: dict[str, Hashes]) -> int:
    """How many different n-grams of the index stand in `text`, whichever script most of it is in."""
    found = scan_words(normalise(text))
    total = 0
    for script in ("spaced", "unspaced"):
        prefixes = [(name, known) for name, known in arrays.items() if name.startswith(f"{script}_prefix_")]
        if not any(len(_shared(found.hashes, name, known)) for name, known in prefixes):
            continue
        for name, known in arrays.items():
            if name.startswith(f"{script}_") and "prefix" not in name:
                total += len(_shared(found.hashes, name, known))
    return total


def _shared(hashes: Hashes, name: str, known: Hashes) -> Hashes:
    """n-grams of `hashes` that are among `known` (sorted, distinct); their length stands in the name."""
    grams = ngram_hashes(hashes, int(name.rsplit("_", 1)[1]))
    if not len(grams) or not len(known):
        return grams[:0]
    at = np.searchsorted(known, grams)
    at[at == len(known)] = 0
    return np.unique(grams[known[at] == grams])
