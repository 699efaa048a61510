"""Two evaluations compared figure by figure, with significance where the single items are known.

Items (a question, a held-out prompt, a pair) are paired by their ids, so that what both models find hard does not count as
noise. The gate for publishing (tasks/publishing.py) and `python -m flows.evaluation --compare` use the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhf_core.measures.statistics import CONFIDENCE, Difference, holm, paired_difference, unpaired_difference
from tasks.reporting.measured import Measured

Better = Literal["higher", "lower"]
NOT_SHOWN = "no difference shown"

LOWER = ("perplexity", "bits_per", "loss", "kl", "repeating", "calibration_error", "too_long", "fewer_shots", "lossy")  # how figures begin of which less is better
NEITHER = ("length", "longer", "questions", "prompts", "answers", "pairs", "rankings", "right", "tokens", "documents", "parameters", "steps", "seconds", "examples", "self_bleu", "letter")
_LEFT_OUT = ("subjects", "categories", "by_source", "by_lang", "by_margin", "spread_phrase")  # tables below a figure
_ENOUGH = 0.5  # share of the smaller side's items that both must have to be compared pair by pair


@dataclass(frozen=True)
class Row:
    """One figure of both sides. `difference` is new less old, None where the single items are not known."""

    figure: str
    new: float
    old: float
    better: Better | None
    difference: Difference | None
    p_adjusted: float | None = None  # Holm's, over the rows that are looked at together

    @property
    def verdict(self) -> str:
        """better, worse, changed (a figure that is neither good nor bad), no difference shown, or untested."""
        if self.difference is None:
            return "untested"
        if self.p_adjusted is None or self.p_adjusted >= 1 - CONFIDENCE:
            return NOT_SHOWN
        if self.better is None:
            return "changed"
        return "better" if (self.difference.value > 0) == (self.better == "higher") else "worse"


def compare(new: Measured, old: Measured, figures: Sequence[str] | None = None) -> list[Row]:
    """Rows of the figures that both have, tested ones first. Unless `figures` names them, those without items are left out where they
    are equal, or say nothing of good and bad."""
    paths = figures if figures is not None else [path for path in new.figures if path in old.figures and not _is_table(path)]
    rows = [Row(path, new.figures[path], old.figures[path], direction(path), difference(new, old, path)) for path in paths]
    if figures is None:
        rows = [row for row in rows if row.difference is not None or (row.better is not None and row.new != row.old)]
    tested = [place for place, row in enumerate(rows) if row.difference is not None]
    adjusted = holm([row.difference.p_value for row in rows if row.difference is not None])
    for place, p_value in zip(tested, adjusted, strict=True):
        row = rows[place]
        rows[place] = Row(row.figure, row.new, row.old, row.better, row.difference, p_value)
    return sorted(rows, key=lambda row: row.difference is None)


def difference(new: Measured, old: Measured, figure: str) -> Difference | None:
    """None where one side's items are not known. Paired by item where both have enough in common."""
    ours, theirs = new.items.get(figure), old.items.get(figure)
    if not ours or not theirs:
        return None
    both = sorted(ours.keys() & theirs.keys())
    if len(both) >= _ENOUGH * min(len(ours), len(theirs)):
        return paired_difference([ours[item] for item in both], [theirs[item] for item in both])
    return unpaired_difference(list(ours.values()), list(theirs.values()))


def direction(figure: str) -> Better | None:
    name = figure.rsplit(".", 1)[-1]
    if name.startswith(NEITHER):
        return None
    return "lower" if name.startswith(LOWER) else "higher"


def _is_table(path: str) -> bool:
    return any(part in _LEFT_OUT for part in path.split("."))


def table(new: Measured, old: Measured, rows: Sequence[Row]) -> str:
    """The rows for a terminal; `old` is A and `new` is B."""
    lines = [("figure", "A", "B", "B - A", "95% interval", "p", "items", "")]
    for row in rows:
        gap = row.new - row.old
        if row.difference is None:
            tail = ("", "", "", "no items to test by")
        else:
            found = row.difference
            tail = (f"{found.low:+.3g} ... {found.high:+.3g}", f"{row.p_adjusted:.3g}", f"{found.count:,}", row.verdict)
        lines.append((row.figure, f"{row.old:.4g}", f"{row.new:.4g}", f"{gap:+.3g}", *tail))
    widths = [max(len(line[column]) for line in lines) for column in range(8)]
    shown = ["  ".join(cell.ljust(width) if column in (0, 7) else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip() for line in lines]
    heading = [f"A: {old.name}", f"B: {new.name}", "p is Holm's, over all rows tested", ""]
    return "\n".join([*heading, shown[0], "-" * len(shown[0]), *shown[1:]])


def drawn(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The tested rows as evaluation_charts.differences takes them."""
    return [
        {
            "label": row.figure, "value": row.difference.value, "low": row.difference.low, "high": row.difference.high, "verdict": row.verdict,
            "text": f"{row.old:.3g} to {row.new:.3g} ({row.difference.value:+.2g}), {row.verdict}",
        }
        for row in rows
        if row.difference is not None
    ]  # fmt: skip
