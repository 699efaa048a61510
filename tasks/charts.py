"""The report's pictures, as SVG text that stands in the page itself. Colours by Okabe and Ito: told apart by colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
# Text stays text (small, searchable); element ids do not depend on the run, so the same figures give the same bytes.
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "crawl2chat", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def waterfall(documents_in: int, dropped: Mapping[str, int], kept: int) -> str:
    """Documents in, each drop reason as a step down, documents kept."""
    names = ["in", *dropped, "kept"]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 0.28 * len(names) + 0.8), layout="constrained")
        axes = figure.subplots()
        left = documents_in
        for row, name in enumerate(names):
            if name in dropped and row not in (0, len(names) - 1):
                left -= dropped[name]
                axes.barh(row, dropped[name], left=left, color=VERMILION)
                axes.annotate(f"-{dropped[name]:,}", (left, row), xytext=(-3, 0), textcoords="offset points", ha="right", va="center")
            else:
                count = documents_in if row == 0 else kept
                axes.barh(row, count, color=BLUE if row == 0 else GREEN)
                axes.annotate(f"{count:,}", (count, row), xytext=(3, 0), textcoords="offset points", va="center")
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel="documents", xlim=(0, documents_in * 1.08 or 1))
        axes.invert_yaxis()
        return _svg(figure)


def curves(lines: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[str]]) -> str:
    """Each group of figures as curves over the steps in one small plot, side by side; groups without data are left out."""
    drawn = [[name for name in group if sum(name in line for line in lines) > 1] for group in groups]
    drawn = [group for group in drawn if group]
    if not drawn:
        return ""
    with rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(drawn), 2.3), layout="constrained")
        for axes, group in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            for name, colour, dash in zip(group, (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False):
                points = [(line["step"], line[name]) for line in lines if name in line]
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=1.5, label=name)
            axes.set(xlabel="step", title=group[0] if len(group) == 1 else None)
            if len(group) > 1:
                axes.legend(frameon=False)
        return _svg(figure)


def trials_png(trials: Sequence[Mapping[str, Any]], objective: str) -> bytes:
    """A sweep's trials: the objective by trial, and against each setting."""
    finished = [trial for trial in trials if trial["value"] is not None]
    keys = list(trials[0]["settings"]) if trials else []
    with rc_context(STYLE):
        figure = Figure(figsize=(2.9 * (1 + len(keys)), 2.6), layout="constrained")
        for axes, key in zip(figure.subplots(1, 1 + len(keys), squeeze=False)[0], ["trial", *keys], strict=True):
            places = [trial["number"] if key == "trial" else _number(trial["settings"][key]) for trial in finished]
            axes.scatter(places, [trial["value"] for trial in finished], color=BLUE, s=18)
            axes.set(xlabel=key, ylabel=objective if key == "trial" else None)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def histograms(labels: Mapping[str, Mapping[str, Any]], columns: int = 4) -> str:
    """Distributions of a corpus card's number labels: of the kept, and on top of them of the dropped."""
    drawn = {name: label for name, label in labels.items() if "edges" in label}
    if not drawn:
        return ""
    rows = -(-len(drawn) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.2 * min(columns, len(drawn)), 1.7 * rows), layout="constrained")
        plots = figure.subplots(rows, min(columns, len(drawn)), squeeze=False).ravel()
        for axes, (name, label) in zip(plots, drawn.items(), strict=False):
            edges = label["edges"]
            widths = [high - low for low, high in pairwise(edges)]
            axes.bar(edges[:-1], label["kept"], widths, align="edge", color=GREEN, label="kept")
            axes.bar(edges[:-1], label["dropped"], widths, bottom=label["kept"], align="edge", color=VERMILION, label="dropped")
            axes.set_title(name, fontsize=8)
        for axes in plots[len(drawn) :]:
            axes.set_axis_off()
        plots[0].legend(frameon=False, fontsize=7)
        return _svg(figure)


def mixture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tokens of every source, phase by phase: the plan as wide pale bars, what was read as narrow dark ones inside them."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    names = [f"{row['phase']} · {row['source']}" for row in rows]
    colours = [(BLUE, ORANGE, GREEN, VERMILION)[sources.index(row["source"]) % 4] for row in rows]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 0.32 * len(rows) + 0.8), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(rows)), [row["planned"] for row in rows], height=0.8, color=colours, alpha=0.35)
        axes.barh(range(len(rows)), [row["read"] for row in rows], height=0.35, color=colours)
        for place, row in enumerate(rows):
            text = f"{row['planned']:,}" + (f", read {row['read']:,}" if row["read"] else "")
            axes.annotate(text, (max(row["planned"], row["read"]), place), xytext=(3, 0), textcoords="offset points", va="center")
        most = max((row["planned"] for row in rows), default=1)
        axes.set(yticks=range(len(rows)), yticklabels=names, xlabel="tokens", xlim=(0, most * 1.35 or 1))
        axes.invert_yaxis()
        return _svg(figure)


def differences(rows: Sequence[Mapping[str, Any]]) -> str:
    """Differences with their intervals, one row each: `label`, `value`, `low`, `high`, `text`, `verdict`. Every row has a scale of its
    own, the zero is common: what matters is whether the interval crosses it. Shape and colour both say the verdict."""
    marks = {"better": ("^", GREEN), "worse": ("v", VERMILION), "changed": ("D", BLUE)}
    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 0.32 * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="#555", linewidth=1)
        for place, row in enumerate(rows):
            scale = max(abs(row["low"]), abs(row["high"]), abs(row["value"])) or 1.0
            mark, colour = marks.get(row["verdict"], ("o", "#555"))
            axes.plot([row["low"] / scale, row["high"] / scale], [place, place], color=colour, linewidth=2)
            axes.plot([row["value"] / scale], [place], mark, color=colour, markersize=6)
            axes.annotate(row["text"], (1.12, place), va="center", annotation_clip=False)
        axes.set(yticks=range(len(rows)), yticklabels=[row["label"] for row in rows], xlim=(-1.1, 2.1), xticks=[0], xticklabels=["no difference"])
        axes.invert_yaxis()
        return _svg(figure)


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
