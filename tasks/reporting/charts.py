"""The report's pictures, as SVG text that stands in the page itself. Colours by Okabe and Ito: told apart by colour-blind readers."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
LETTER = 0.075  # inches that a letter of a label takes
WIDTH = 3.7  # inches: a phone shows it whole and in full size, so that its letters stay legible
# Text stays text (small, searchable); element ids do not depend on the run, so the same figures give the same bytes.
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "crawl2chat", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def waterfall(documents_in: int, dropped: Mapping[str, int], kept: int) -> str:
    """Documents in, each drop reason as a step down, documents kept."""
    names = ["in", *dropped, "kept"]
    with rc_context(STYLE):
        figure, axes = plot(WIDTH, 0.26 * len(names) + 0.8, labels=names)
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
        axes.set(yticks=range(len(names)), yticklabels=shortened(names), xlabel="documents", xlim=(0, documents_in * 1.15 or 1))
        axes.invert_yaxis()
        steps = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        return svg(figure, f"Documents: {documents_in:,} in; dropped: {steps or 'none'}; {kept:,} kept.")


def curves(lines: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[str]]) -> str:
    """Each group of figures as curves over the steps in a small picture of its own; groups without data are left out."""
    drawn = [[name for name in group if sum(name in line for line in lines) > 1] for group in groups]
    return "".join(_curve(lines, group) for group in drawn if group)


def _curve(lines: Sequence[Mapping[str, Any]], group: Sequence[str]) -> str:
    with rc_context(STYLE):
        figure, axes = plot(2.9, 2.3)
        for name, colour, dash in zip(group, (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=1.5, label=name)
        axes.set(xlabel="step", title=group[0] if len(group) == 1 else None)
        if len(group) > 1:
            axes.legend(frameon=False)
        return svg(figure, "Curves over the steps of training. " + " ".join(_told(name, lines) for name in group))


def _told(name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """A curve in words."""
    values = [line[name] for line in lines if name in line]
    return f"{name}: from {values[0]:.3g} to {values[-1]:.3g}, lowest {min(values):.3g}, highest {max(values):.3g}."


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


def histograms(labels: Mapping[str, Mapping[str, Any]]) -> str:
    """Distributions of a corpus card's number labels, a picture each, of which a phone shows two beside each other: of the kept, and on
    top of them, hatched, of the dropped."""
    drawn = {name: label for name, label in labels.items() if "edges" in label}
    return "".join(_histogram(name, label) for name, label in drawn.items())


def _histogram(name: str, label: Mapping[str, Any]) -> str:
    edges = label["edges"]
    widths = [high - low for low, high in pairwise(edges)]
    with rc_context(STYLE):
        figure, axes = plot(1.8, 1.5, left=0.5, below=0.25)
        axes.bar(edges[:-1], label["kept"], widths, align="edge", color=GREEN)
        axes.bar(edges[:-1], label["dropped"], widths, bottom=label["kept"], align="edge", color=VERMILION, hatch="///", edgecolor="white", linewidth=0)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=8)
        return svg(figure, f"Histogram of {name} from {edges[0]:.3g} to {edges[-1]:.3g}: {sum(label['kept']):,} kept, {sum(label['dropped']):,} dropped.")


def mixture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tokens of every source, phase by phase: the plan as wide pale bars, what was read as narrow dark ones inside them."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    names = [f"{row['phase']} · {row['source']}" for row in rows]
    colours = [(BLUE, ORANGE, GREEN, VERMILION)[sources.index(row["source"]) % 4] for row in rows]
    with rc_context(STYLE):
        figure, axes = plot(7.5, 0.32 * len(rows) + 0.8, labels=names)
        axes.barh(range(len(rows)), [row["planned"] for row in rows], height=0.8, color=colours, alpha=0.35)
        axes.barh(range(len(rows)), [row["read"] for row in rows], height=0.35, color=colours)
        for place, row in enumerate(rows):
            text = f"{row['planned']:,}" + (f", read {row['read']:,}" if row["read"] else "")
            axes.annotate(text, (max(row["planned"], row["read"]), place), xytext=(3, 0), textcoords="offset points", va="center")
        most = max((row["planned"] for row in rows), default=1)
        axes.set(yticks=range(len(rows)), yticklabels=shortened(names, 7.5), xlabel="tokens", xlim=(0, most * 1.35 or 1))
        axes.invert_yaxis()
        told = (f"{name}: {row['planned']:,} planned, {row['read']:,} read" for name, row in zip(names, rows, strict=True))
        return svg(figure, "Tokens by phase and source. " + "; ".join(told) + ".")


def plot(width: float, height: float, labels: Sequence[str] = (), left: float = 0.7, below: float = 0.45) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one pair of axes, and room at their left, for `labels` where there are any, and below. Margins
    that are fixed cost less than half of the time that a layout takes, and a report has some thirty pictures."""
    figure = Figure(figsize=(width, height))
    if labels:
        left = LETTER * max(map(len, shortened(labels, width))) + 0.2
    axes = figure.add_axes((left / width, below / height, (width - left - 0.22) / width, (height - below - 0.28) / height))
    return figure, axes


def shortened(labels: Sequence[str], width: float = WIDTH) -> list[str]:
    """Labels beside a picture of this width in inches: of each as much as leaves two fifths of it to the picture."""
    return [cut(label, int((0.62 * width - 0.2) / LETTER)) for label in labels]


def cut(label: str, most: int) -> str:
    """At most so many letters: of a longer label the middle is left out."""
    return label if len(label) <= most else f"{label[: most // 2]}…{label[most // 2 + 1 - most :]}"


def svg(figure: Figure, words: str) -> str:
    """The figure as an SVG element that may stand in a page; `words` say to who does not see it what it shows."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return f'<svg role="img" aria-label="{html.escape(words)}"' + text[text.index("<svg") + len("<svg") :]
