"""Rules over labels, evaluated shard by shard; robust bounds need one look at the whole corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.document import Verdict, values
from data.settings import Rule

_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in one MAD
_NONE = np.iinfo(np.int16).max


@dataclass(frozen=True)
class Broken:
    """Per document: index of the first rule it breaks, or -1, and the value measured."""

    rules: Sequence[Rule]
    rule: NDArray[np.int16]
    value: NDArray[np.float64]
    texts: dict[int, str] = field(default_factory=dict)  # row -> value, where the label is text

    def verdict(self, row: int) -> Verdict | None:
        index = int(self.rule[row])
        if index < 0:
            return None
        return self.rules[index].reason, self.texts[row] if row in self.texts else f"{self.value[row]:.6g}"


class RuleBook:
    """Takes the labels of all documents shard by shard (`add`), then decides (`decide`)."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self._robust = [index for index, rule in enumerate(self.rules) if rule.is_robust]
        self._first: list[NDArray[np.int16]] = []
        self._value: list[NDArray[np.float64]] = []
        self._langs: list[NDArray[np.int16]] = []  # by their place in _lang_names
        self._lang_names: dict[str, int] = {}
        self._measures: dict[int, list[NDArray[np.float64]]] = {index: [] for index in self._robust}
        self._texts: dict[int, str] = {}
        self._rows = 0
        self.bounds: dict[tuple[int, str], tuple[float, float]] = {}

    def add(self, labels: pa.Table) -> None:
        """Apply the fixed bounds; keep what the robust ones need.

        Raises ValueError where a label is missing that its rule does not call `if_measured`, or has another type.
        """
        rows = labels.num_rows
        first = np.full(rows, _NONE, dtype=np.int16)
        value = np.full(rows, np.nan)
        langs = self._places(labels)
        columns: dict[str, NDArray[np.float64]] = {}
        for index, rule in enumerate(self.rules):
            if rule.label not in labels.schema.names:
                if not rule.if_measured:
                    raise ValueError(f"rule {rule.reason!r}: no stage measures the label {rule.label!r}")
                if index in self._measures:
                    self._measures[index].append(np.full(rows, np.nan))
                continue
            applies = np.True_ if rule.languages is None else np.isin(langs, [self._lang_names.get(lang, -1) for lang in rule.languages])
            if rule.is_text:
                texts = _strings(labels, rule)
                outside = np.array([text is not None and not _passes(rule, text) for text in texts], dtype=np.bool_)
                outside &= applies & (first == _NONE)
                first[outside] = index
                self._texts.update((self._rows + at, texts[at] or "") for at in np.flatnonzero(outside).tolist())
                continue
            if rule.label not in columns:
                columns[rule.label] = numbers(labels, rule.label)
            measure = columns[rule.label]
            outside = np.zeros(rows, dtype=np.bool_)
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
        self._rows += rows

    def _places(self, labels: pa.Table) -> NDArray[np.int16]:
        """The language of each document by its place in `_lang_names`; "" where there is none."""
        langs = values(labels, "lang") if "lang" in labels.schema.names else [""] * labels.num_rows
        return np.array([self._lang_names.setdefault(lang or "", len(self._lang_names)) for lang in langs], dtype=np.int16)

    def decide(self) -> Broken:
        """The first broken rule of every document, in the order of `add`."""
        first = np.concatenate(self._first) if self._first else np.zeros(0, np.int16)
        value = np.concatenate(self._value) if self._value else np.zeros(0)
        langs = np.concatenate(self._langs) if self._langs else np.zeros(0, np.int16)
        texts = dict(self._texts)
        sound = first == _NONE
        for index in self._robust:
            rule, measure = self.rules[index], np.concatenate(self._measures[index] or [np.zeros(0)])
            for lang, place in sorted(self._lang_names.items()):
                of_lang = (langs == place) & ~np.isnan(measure)
                if not (of_lang & sound).any():
                    continue
                low, high = robust_bounds(measure[of_lang & sound], rule)
                self.bounds[index, lang] = low, high
                outside = of_lang & ((measure < low) | (measure > high)) & (first > index)
                first[outside], value[outside] = index, measure[outside]
                for row in np.flatnonzero(outside).tolist():
                    texts.pop(row, None)  # a later rule over text had named this drop
        return Broken(self.rules, np.where(first == _NONE, -1, first).astype(np.int16), value, texts)


def robust_bounds(values: NDArray[np.float64], rule: Rule) -> tuple[float, float]:
    """median -+ mads * max(1.4826 * MAD, min_spread) of `values`, of which there is at least one."""
    median = float(np.median(values))
    spread = max(_NORMAL_MAD * float(np.median(np.abs(values - median))), rule.min_spread)
    low = -np.inf if rule.min_mads is None else median - rule.min_mads * spread
    high = np.inf if rule.max_mads is None else median + rule.max_mads * spread
    return low, high


def _passes(rule: Rule, text: str) -> bool:
    if rule.any_of is not None and not any(fnmatchcase(text, pattern) for pattern in rule.any_of):
        return False
    return rule.none_of is None or not any(fnmatchcase(text, pattern) for pattern in rule.none_of)


def is_text(labels: pa.Table, name: str) -> bool:
    return pa.types.is_string(labels.schema.field(name).type)


def numbers(labels: pa.Table, name: str) -> NDArray[np.float64]:
    """One label as numbers; null becomes NaN. Raises ValueError for a label that is text."""
    if is_text(labels, name):
        raise ValueError(f"the label {name!r} is text: give it any_of or none_of, not bounds")
    return pc.cast(labels[name], pa.float64(), safe=False).to_numpy()


def _strings(labels: pa.Table, rule: Rule) -> list[str | None]:
    if not is_text(labels, rule.label):
        raise ValueError(f"rule {rule.reason!r}: the label {rule.label!r} is a number: give it min or max, not any_of or none_of")
    return values(labels, rule.label)
