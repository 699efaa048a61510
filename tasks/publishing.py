"""The model in service: which artifact it is, the gate that a new one must pass, and the way back to the one before.

The store's note `published/<name>` says it: `in_service` is one entry, `earlier` the entries before it, newest last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.reporting.comparing import Row, compare
from tasks.reporting.measured import Measured, measured
from tasks.store.artifacts import Artifact, Store


class Measure(BaseModel):
    """One figure that a new model must reach to replace the one in service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str = Field(description="Path in report.json, as in ppo.win_rate or sft.exact_match.")
    better: Literal["higher", "lower"] = Field("higher", description="Which way the figure is better.")
    margin: float = Field(
        0.0, description="By how much the new model must be better, in the figure's unit; negative allows a loss."
    )
    confident: bool = Field(
        False, description="The whole 95% interval of the difference, item by item, must lie beyond the margin, not the figure alone."
    )


class PublishSettings(BaseModel):
    """Whether and when a run's model goes into service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("chat", pattern=r"^[a-z0-9_-]+$", description="The service that the model is published for.")
    model: str | None = Field(None, description="The training stage whose model it is; null = the last one that answers.")
    measures: list[Measure] = Field(
        default_factory=list, description="The gate: every measure must hold against the model in service."
    )


class Entry(BaseModel):
    """A model that is or was in service."""

    model_config = ConfigDict(frozen=True)

    model: Artifact
    report: Artifact
    recipe: str
    figures: dict[str, float] = Field(description="The gate's figures, as measured for this model.")
    published: datetime

    @property
    def folder(self) -> str:
        return f"{self.model.url}/model"


class Verdict(BaseModel):
    """One measure's outcome."""

    figure: str
    new: float
    old: float | None
    passed: bool
    interval: tuple[float, float] | None = Field(None, description="Of new less old, 95%; null where the single items are not known.")
    needs_items: bool = Field(False, description="Confidence was asked for, and there are no items to have it by.")

    def __str__(self) -> str:
        before = "nothing in service" if self.old is None else f"{self.old:.4g} in service"
        sure = f" ({self.interval[0]:+.3g} ... {self.interval[1]:+.3g})" if self.interval else ""
        outcome = "passed" if self.passed else "no items to compare with confidence" if self.needs_items else "not enough"
        return f"{self.figure}: {self.new:.4g} against {before}{sure}: {outcome}"


def figure(figures: Mapping[str, Any], path: str) -> float:
    """The number at a dotted path of report.json; raises ValueError that names the path and what is there."""
    place: Any = figures
    for key in path.split("."):
        if not isinstance(place, Mapping) or key not in place:
            known = ", ".join(place) if isinstance(place, Mapping) else "a number"
            raise ValueError(f"publish.measures: the report has no figure {path!r}; at {key!r} there is: {known}")
        place = place[key]
    if isinstance(place, bool) or not isinstance(place, int | float):
        raise ValueError(f"publish.measures: {path!r} is no number but {type(place).__name__}")
    return float(place)


def figures_of(store: Store, report: Artifact) -> dict[str, Any]:
    """A report's figures, as in report.json."""
    found: dict[str, Any] = json.loads((store.local(report) / "figures.json").read_text(encoding="utf-8"))
    return found


def judge(new: Measured, old: Measured | None, measures: Sequence[Measure]) -> list[Verdict]:
    """Every measure of a new model against the one in service. What the old one was never measured on passes."""
    shared = [measure.figure for measure in measures if old is not None and measure.figure in old.figures]
    rows = {row.figure: row for row in compare(new, old, shared)} if old is not None else {}
    return [_verdict(measure, new.figures[measure.figure], rows.get(measure.figure)) for measure in measures]


def _verdict(measure: Measure, value: float, row: Row | None) -> Verdict:
    if row is None:
        return Verdict(figure=measure.figure, new=value, old=None, passed=True)
    sign = 1 if measure.better == "higher" else -1
    found = row.difference
    passed = sign * (row.new - row.old) >= measure.margin
    needs_items = measure.confident and found is None
    if measure.confident:  # beyond the margin, not on it: a bound of 0 is what no difference looks like
        passed = found is not None and min(sign * found.low, sign * found.high) > measure.margin
    interval = (found.low, found.high) if found else None
    return Verdict(figure=measure.figure, new=row.new, old=row.old, passed=passed, interval=interval, needs_items=needs_items)


def in_service(store: Store, name: str) -> Entry | None:
    note = store.read_note(f"published/{name}")
    return Entry.model_validate(note["in_service"]) if note else None


def history(store: Store, name: str) -> list[Entry]:
    """Earlier models, oldest first."""
    note = store.read_note(f"published/{name}")
    return [Entry.model_validate(entry) for entry in note["earlier"]] if note else []


def services(store: Store) -> list[str]:
    return store.notes("published")


def gate(store: Store, settings: PublishSettings, report: Artifact) -> tuple[dict[str, float], list[Verdict]]:
    """The gate's figures of a report, and what it says of them against the model that is in service now.

    Raises ValueError where the report has no such figure.
    """
    reported, current = figures_of(store, report), in_service(store, settings.name)
    figures = {measure.figure: figure(reported, measure.figure) for measure in settings.measures}
    before = _items(store, current.report, current.figures) if current else None
    return figures, judge(_items(store, report, figures), before, settings.measures)


def publish(
    store: Store, settings: PublishSettings, recipe: str, model: Artifact, report: Artifact
) -> tuple[Entry | None, list[Verdict]]:
    """Put `model` into service if it passes the gate. Returns its entry (None: refused) and the verdicts.

    The model that is in service already stays there, whatever the gate says: it is no change.
    """
    with store.lock(f"published-{settings.name}"):
        current = in_service(store, settings.name)
        figures, verdicts = gate(store, settings, report)
        if current and current.model == model:
            return current, []
        if not all(verdict.passed for verdict in verdicts):
            return None, verdicts
        entry = Entry(model=model, report=report, recipe=recipe, figures=figures, published=datetime.now(UTC))
        _write(store, settings.name, entry, [*history(store, settings.name), *([current] if current else [])])
        return entry, verdicts


def _items(store: Store, report: Artifact, figures: dict[str, float]) -> Measured:
    """The gate's figures with the single items behind them; without, where the store no longer holds what was evaluated."""
    try:
        return Measured(report.url, figures, measured(store, report, report.url).items)
    except (ValueError, OSError):
        return Measured(report.url, figures)


def restore(store: Store, name: str) -> Entry:
    """Put the model before the one in service back. Raises ValueError where there is none."""
    with store.lock(f"published-{name}"):
        earlier = history(store, name)
        if not earlier:
            raise ValueError(f"nothing to restore: {name!r} has no earlier model; published: {', '.join(services(store)) or 'none'}")
        entry = earlier[-1]
        if store.find(entry.model.stage, entry.model.fingerprint) is None:
            raise ValueError(f"the earlier model of {name!r} is gone from the store: {entry.model.url}")
        _write(store, name, entry, earlier[:-1])
        return entry


def _write(store: Store, name: str, entry: Entry, earlier: list[Entry]) -> None:
    note = {"in_service": entry.model_dump(mode="json"), "earlier": [one.model_dump(mode="json") for one in earlier]}
    store.write_note(f"published/{name}", note)
