"""A linear classifier over hashed features: multinomial logistic regression, trained and asked in numpy.

A text is the set of its features (64-bit hashes, of which the top bits name a weight), each with the value
1/sqrt(number of features): p(class) = softmax(W x + b). Trained by Adagrad (Duchi et al. 2011) on mini-batches with L2,
features hashed as in Weinberger et al. 2009 (without their sign: at 2^18 weights collisions are few). Saved as one .npz
without pickles: the weights, the classes, and the facts of the training as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.text import Hashes, mix

VERSION = 1
_BATCH = 64  # examples an update
_RATE = 0.5  # Adagrad's step
_DECAY = 0.03  # L2 over the number of examples, of a weight at each update that it has a part in
_EPOCHS = 6
_HELD_OUT = 10  # one example in so many is held out, and the figures are of these

Features = NDArray[np.uint32]  # sorted numbers of a text's weights, each once


@dataclass(frozen=True)
class LinearModel:
    """Weights (2^bits, classes) and bias (classes,), float32; `kind` says by which features it was trained."""

    kind: str
    classes: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    facts: dict[str, Any]

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def probabilities(self, features: Sequence[Features]) -> NDArray[np.float64]:
        """Of each class for each text, shape (texts, classes); a text without features gets the bias alone."""
        return _softmax(_scores(features, self.weights, self.bias))

    def save(self, path: Path) -> None:
        """One .npz; the same model gives the same bytes."""
        about = json.dumps({"version": VERSION, "kind": self.kind, "classes": self.classes, "facts": self.facts}, ensure_ascii=False, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(about.encode(), np.uint8), weights=self.weights, bias=self.bias)

    @staticmethod
    def load(path: Path, kind: str) -> LinearModel:
        """Raises ValueError where `path` is no such model or one of another kind."""
        about, weights, bias = _read(path, kind, ("weights", "bias"))
        if weights.shape != (1 << (len(weights).bit_length() - 1), len(bias)) or len(bias) != len(about["classes"]):
            raise ValueError(f"{path}: weights of shape {weights.shape} for {len(about['classes'])} classes")
        return LinearModel(kind, tuple(about["classes"]), weights, bias, about["facts"])


    @staticmethod
    def classes_in(path: Path, kind: str) -> tuple[str, ...]:
        """The classes alone, without the weights. Raises ValueError as `load` does."""
        return tuple(_read(path, kind)[0]["classes"])


def _read(path: Path, kind: str, names: Sequence[str] = ()) -> list[Any]:
    """What the model says about itself, and these arrays."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            found = [arrays[name] for name in names]
        version, of_kind = about["version"], about["kind"]
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file breaks zip, zlib, numpy's and JSON's readers, each in its own way
        raise ValueError(f"{path}: not a model of this project: {error}") from None
    if version != VERSION or of_kind != kind:
        raise ValueError(f"{path}: a {of_kind} model of version {version}; needed: {kind}, version {VERSION}. Train it again")
    return [about, *found]


def hashed(hashes: Iterable[Hashes], bits: int) -> Features:
    """Numbers below 2^bits of the given feature hashes."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]) >> np.uint64(64 - bits)).astype(np.uint32)


def train(
    kind: str, features: Sequence[Features], labels: Sequence[str], bits: int, seed: int, facts: dict[str, Any] | None = None
) -> LinearModel:
    """A model of at least two classes; `facts` gets the number of examples and what the held-out tenth says.

    Which examples are held out is decided by their features, so copies never stand on both sides. Raises ValueError where
    there is only one class.
    """
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two classes at least, and the examples have {', '.join(classes) or 'none'}")
    target = np.array([classes.index(label) for label in labels], dtype=np.int64)
    keys = np.array([int(mix(part.astype(np.uint64)).sum(dtype=np.uint64)) % _HELD_OUT for part in features])
    held = keys == 0
    taught = [np.flatnonzero(~held & (target == k)) for k in range(len(classes))]
    if not all(len(rows) for rows in taught):
        held[:] = False
    weights, bias = _fit([features[row] for row in np.flatnonzero(~held).tolist()], target[~held], len(classes), bits, seed)
    model = LinearModel(kind, classes, weights.astype(np.float32), bias.astype(np.float32), {})
    counts = {name: int((target == k).sum()) for k, name in enumerate(classes)}
    found = {**(facts or {}), "examples": counts, "held_out": int(held.sum()), "seed": seed}
    found |= _figures(model.probabilities([features[row] for row in np.flatnonzero(held).tolist()]), target[held])
    return LinearModel(kind, classes, model.weights, model.bias, found)


def _fit(
    features: Sequence[Features], target: NDArray[np.int64], classes: int, bits: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.zeros((1 << bits, classes))
    seen = np.full((1 << bits, classes), 1e-8)
    bias, seen_bias = np.zeros(classes), np.full(classes, 1e-8)
    # Classes count alike however many examples they have, so that a score of 0.5 means no opinion.
    share = len(target) / (classes * np.maximum(np.bincount(target, minlength=classes), 1))
    random = np.random.Generator(np.random.PCG64(seed))
    for _ in range(_EPOCHS):
        order = random.permutation(len(target))
        for at in range(0, len(order), _BATCH):
            rows = order[at : at + _BATCH]
            batch = [features[row] for row in rows]
            error = _softmax(_scores(batch, weights, bias))
            error[np.arange(len(rows)), target[rows]] -= 1.0
            error *= share[target[rows]][:, None] / len(rows)
            lengths = np.array([len(part) for part in batch])
            values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
            used, place = np.unique(np.concatenate(batch), return_inverse=True)
            spread = np.repeat(error, lengths, axis=0) * values[:, None]
            gradient = np.stack([np.bincount(place, spread[:, k], len(used)) for k in range(classes)], axis=1)
            gradient += _DECAY / len(target) * weights[used]
            seen[used] += gradient**2
            weights[used] -= _RATE * gradient / np.sqrt(seen[used])
            total = error.sum(axis=0)
            seen_bias += total**2
            bias -= _RATE * total / np.sqrt(seen_bias)
    return weights, bias


def _scores(features: Sequence[Features], weights: NDArray, bias: NDArray) -> NDArray[np.float64]:
    """W x + b, shape (texts, classes)."""
    lengths = np.array([len(part) for part in features], dtype=np.int64)
    sums = np.zeros((len(features), weights.shape[1]))
    filled = np.flatnonzero(lengths)
    if len(filled):
        gathered = weights[np.concatenate(features)].astype(np.float64)
        starts = np.concatenate([[0], np.cumsum(lengths[filled])[:-1]])
        sums[filled] = np.add.reduceat(gathered, starts, axis=0) / np.sqrt(lengths[filled])[:, None]
    return sums + bias


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _figures(probabilities: NDArray[np.float64], target: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy on the held-out examples, and of two classes the area under the ROC curve; nothing where there are none."""
    if not len(target):
        return {}
    found = {"accuracy": round(float((probabilities.argmax(axis=1) == target).mean()), 4)}
    if probabilities.shape[1] == 2 and 0 < target.sum() < len(target):
        found["auc"] = round(area_under_curve(probabilities[:, 1], target == 1), 4)
    return found


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """How often a positive example scores above a negative one, ties counting half (Mann-Whitney U / n1 n0)."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ones = int(positive.sum())
    return float((middle[ranks][positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones)))
