"""A learned score of URLs: how likely a page is worth fetching out of its archive, told from its address alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import numpy as np

from data.corpus.learned.linear_model import Features, LinearModel, hashed
from data.corpus.url.form import normalise_url
from data.text import code_points, mix, ngram_hashes
from data.unchanged import kept_while_unchanged

KIND = "url"
GOOD, BAD = "good", "bad"
BITS = 18  # a quarter of a million weights, 2 MB
_SIZES = (3, 4, 5)  # characters of an n-gram
_MOST_CHARACTERS = 512


def url_features(url: str, bits: int = BITS) -> Features:
    """Character n-grams of the address without its scheme, a border mark at either end."""
    address = unquote(normalise_url(url) or url).partition("://")[2] or url
    codes = code_points(f"^{address.lower().removeprefix('www.')[:_MOST_CHARACTERS]}$").astype(np.uint64)
    return hashed((mix(ngram_hashes(mix(codes), size) + np.uint64(size)) for size in _SIZES), bits)


def url_scores(urls: list[str], model: Path) -> list[float]:
    """Probability of `good` for each URL. Raises ValueError where `model` is not a URL model."""
    loaded = _load(model)
    good = loaded.classes.index(GOOD)
    return [float(score) for score in loaded.probabilities([url_features(url, loaded.bits) for url in urls])[:, good]]


@kept_while_unchanged(2)
def _load(path: Path) -> LinearModel:
    return LinearModel.load(path, KIND)
