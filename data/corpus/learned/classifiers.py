"""Learned labels: how much a text reads like trusted ones (quality), and what it is about (topic).

A model is one that this project trained (python -m data.corpus.train_quality, train_topic) or any supervised fastText file.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.learned.fasttext_model import load_fasttext
from data.corpus.learned.linear_model import Features, LinearModel, hashed, train
from data.document import label_schema, values
from data.settings import ClassifierSettings
from data.text import mix, ngram_hashes, normalise, scan_words
from data.unchanged import kept_while_unchanged

BITS = 18  # of a feature's number: a quarter of a million weights a class
TRUSTED, RAW = "trusted", "raw"  # the classes of a quality model
_FASTTEXT = (".bin", ".ftz")
_MOST_CHARACTERS = 1 << 15  # of a text that a model reads, from its beginning


def text_features(texts: Sequence[str], bits: int = BITS) -> list[Features]:
    """Words and pairs of words of each text (normalised); of unspaced text characters, pairs and triples."""
    found: list[Features] = []
    for text in texts:
        words = scan_words(normalise(text[:_MOST_CHARACTERS]))
        sizes = (1, 2, 3) if words.mostly_unspaced else (1, 2)
        # Each size hashed apart: a word must not meet the pair that happens to have its hash.
        found.append(hashed((mix(ngram_hashes(words.hashes, size) + np.uint64(size)) for size in sizes), bits))
    return found


class Classifier(Protocol):
    classes: tuple[str, ...]

    def __call__(self, texts: list[str]) -> NDArray[np.float64]:
        """Probabilities, shape (texts, classes)."""
        ...


class _Linear:
    def __init__(self, path: Path, kind: str) -> None:
        self._model = LinearModel.load(path, kind)
        self.classes = self._model.classes

    def __call__(self, texts: list[str]) -> NDArray[np.float64]:
        return self._model.probabilities(text_features(texts, self._model.bits))


class _FastText:
    def __init__(self, path: Path) -> None:
        self._model = load_fasttext(str(path))
        self.classes = tuple(sorted(label.removeprefix("__label__") for label in self._model.labels))

    def __call__(self, texts: list[str]) -> NDArray[np.float64]:
        numbers, scores = self._model.predict([" ".join(text[:_MOST_CHARACTERS].split()) for text in texts], len(self.classes))
        columns = np.array([self.classes.index(label.removeprefix("__label__")) for label in self._model.labels])
        found = np.zeros((len(texts), len(self.classes)))
        rows, places = np.nonzero(numbers >= 0)
        found[rows, columns[numbers[rows, places]]] = np.minimum(scores[rows, places], 1.0)
        return found


@kept_while_unchanged(4)
def load_classifier(path: str, kind: str) -> Classifier:
    """The model in `path`. Raises ValueError where it is none, or one for another purpose."""
    return _FastText(Path(path)) if path.endswith(_FASTTEXT) else _Linear(Path(path), kind)


def check_models(settings: ClassifierSettings) -> None:
    """Raises ValueError, which begins with the setting's name, for a model file of this machine that is none, one for another purpose, or
    one without `trusted_class`."""
    for name, path, kind in (("quality_model", settings.quality_model, "quality"), ("topic_model", settings.topic_model, "topic")):
        if path and Path(path).is_file():
            try:
                classes = load_fasttext(path).labels if path.endswith(_FASTTEXT) else LinearModel.classes_in(Path(path), kind)
            except ValueError as error:
                raise ValueError(f"classifiers.{name}: {error}") from None
            if kind == "quality":
                _check_class(settings, [label.removeprefix("__label__") for label in classes])


def _check_class(settings: ClassifierSettings, classes: Sequence[str]) -> None:
    if settings.trusted_class not in classes:
        raise ValueError(
            f"classifiers.trusted_class: {settings.quality_model} has no class {settings.trusted_class!r}; its classes: {', '.join(sorted(classes)[:20])}"
        )


def classifier_schema(settings: ClassifierSettings) -> pa.Schema:
    columns: dict[str, pa.DataType] = {}
    if settings.quality_model:
        columns["quality_score"] = pa.float32()  # probability of the trusted class
    if settings.topic_model:
        columns |= {"topic": pa.string(), "topic_score": pa.float32()}  # the likeliest class and its probability
    return label_schema(columns)


def classifier_labels(documents: pa.Table, settings: ClassifierSettings) -> pa.Table:
    """`quality_score`, `topic` and `topic_score`, as far as there is a model for them. Empty texts have none (null)."""
    texts = [text or "" for text in values(documents, "text")]
    empty = np.array([not text.strip() for text in texts], dtype=np.bool_)
    columns: list[Any] = [documents["id"].combine_chunks()]
    if settings.quality_model:
        model = load_classifier(settings.quality_model, "quality")
        _check_class(settings, model.classes)
        columns.append(pa.array(model(texts)[:, model.classes.index(settings.trusted_class)], pa.float32(), mask=empty))
    if settings.topic_model:
        model = load_classifier(settings.topic_model, "topic")
        found = model(texts)
        best = found.argmax(axis=1)
        columns.append(pa.array([model.classes[k] for k in best.tolist()], pa.string(), mask=empty))
        columns.append(pa.array(found[np.arange(len(best)), best], pa.float32(), mask=empty))
    return pa.table(columns, schema=classifier_schema(settings))


def sample(texts: Iterable[str], most: int, bits: int, seed: int) -> list[Features]:
    """Features of `most` texts, chosen by a hash of their features: by neither order nor file. Empty texts are left out."""
    kept: list[tuple[int, int, Features]] = []
    for number, features in enumerate(_features(texts, bits)):
        key = int(mix(mix(features.astype(np.uint64) + np.uint64(seed)).sum(dtype=np.uint64, keepdims=True))[0])
        if len(kept) < most:
            heapq.heappush(kept, (-key, number, features))
        elif -key > kept[0][0]:
            heapq.heapreplace(kept, (-key, number, features))
    return [features for _, _, features in sorted(kept, key=lambda item: (-item[0], item[1]))]


def _features(texts: Iterable[str], bits: int) -> Iterator[Features]:
    """Of texts with a word, a thousand at a time."""
    waiting = iter(texts)
    while part := list(islice(waiting, 1000)):
        yield from filter(len, text_features(part, bits))


def train_classifier(kind: str, texts: dict[str, Iterable[str]], most: int, seed: int, bits: int = BITS) -> LinearModel:
    """A model from the texts of each class, `most` of each at most. Raises ValueError where a class has none."""
    features: list[Features] = []
    labels: list[str] = []
    for name, of_class in sorted(texts.items()):
        found = sample(of_class, most, bits, seed)
        if not found:
            raise ValueError(f"the class {name!r} has no text to learn from; --text-field names the fields that hold texts")
        features += found
        labels += [name] * len(found)
    return train(kind, features, labels, bits, seed)
