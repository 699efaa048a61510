"""Threshold rules over labels, evaluated shard by shard; robust bounds need one look at the whole corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.document import values
from data.settings import Rule

_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in one MAD
_NONE = np.iinfo(np.int16).max


@dataclass(frozen=True)
class Broken:
    """Per document: index of the first rule it breaks, or -1, and the value measured."""

    rule: NDArray[np.int16]
    value: NDArray[np.float64]


class RuleBook:
    """Takes the labels of all documents shard by shard (`add`), then decides (`decide`)."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self._robust = [index for index, rule in enumerate(self.rules) if rule.max_mads is not None]
        self._first: list[NDArray[np.int16]] = []
        self._value: list[NDArray[np.float64]] = []
        self._langs: list[NDArray[np.object_]] = []
        self._measures: dict[int, list[NDArray[np.float64]]] = {index: [] for index in self._robust}
        self.bounds: dict[tuple[int, str], float] = {}

    def add(self, labels: pa.Table) -> None:
        """Apply the fixed bounds; keep what the robust ones need. Raises ValueError where a label is missing."""
        first = np.full(labels.num_rows, _NONE, dtype=np.int16)
        value = np.full(labels.num_rows, np.nan)
        langs = _languages(labels)
        columns: dict[str, NDArray[np.float64]] = {}
        for index, rule in enumerate(self.rules):
            if rule.label not in columns:
                if rule.label not in labels.schema.names:
                    raise ValueError(f"rule {rule.reason!r}: no stage measures the label {rule.label!r}")
                columns[rule.label] = numbers(labels, rule.label)
            measure = columns[rule.label]
            applies = np.isin(langs, rule.languages) if rule.languages is not None else np.True_
            outside = np.zeros(labels.num_rows, dtype=np.bool_)
            with np.errstate(invalid="ignore"):
                if rule.min is not None:
                    outside |= measure < rule.min
                if rule.max is not None:
                    outside |= measure > rule.max
            outside &= applies & (first == _NONE)
            first[outside], value[outside] = index, measure[outside]
            if index in self._measures:
                self._measures[index].append(np.where(applies, measure, np.nan))
        self._first.append(first)
        self._value.append(value)
        self._langs.append(langs)

    def decide(self) -> Broken:
        """The first broken rule of every document, in the order of `add`."""
        first = np.concatenate(self._first) if self._first else np.zeros(0, np.int16)
        value = np.concatenate(self._value) if self._value else np.zeros(0)
        langs = np.concatenate(self._langs) if self._langs else np.zeros(0, np.object_)
        sound = first == _NONE
        for index in self._robust:
            rule, measure = self.rules[index], np.concatenate(self._measures[index] or [np.zeros(0)])
            assert rule.max_mads is not None
            for lang in sorted(set(langs.tolist())):
                of_lang = (langs == lang) & ~np.isnan(measure)
                if not (of_lang & sound).any():
                    continue
                bound = robust_bound(measure[of_lang & sound], rule.max_mads, rule.min_spread)
                self.bounds[index, lang] = bound
                outside = of_lang & (measure > bound) & (first > index)
                first[outside], value[outside] = index, measure[outside]
        return Broken(np.where(first == _NONE, -1, first).astype(np.int16), value)


def robust_bound(values: NDArray[np.float64], mads: float, min_spread: float) -> float:
    """median + mads * max(1.4826 * MAD, min_spread) of `values`, of which there is at least one."""
    median = float(np.median(values))
    spread = _NORMAL_MAD * float(np.median(np.abs(values - median)))
    return median + mads * max(spread, min_spread)


def _languages(labels: pa.Table) -> NDArray[np.object_]:
    if "lang" not in labels.schema.names:
        return np.full(labels.num_rows, "", dtype=object)
    return np.array([lang or "" for lang in labels["lang"].to_pylist()], dtype=object)


def numbers(labels: pa.Table, name: str) -> NDArray[np.float64]:
    """One label as numbers; null becomes NaN."""
    return np.array(values(labels, name), dtype=np.float64)
