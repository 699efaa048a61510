"""Pictures of what was measured of the models, as SVG text like those of charts.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tasks.reporting.charts import (
    BLUE,
    GREEN,
    LETTER,
    ORANGE,
    STYLE,
    VERMILION,
    WIDTH,
    cut,
    plot,
    shortened,
    svg,
)

GREY = "#555555"
COLOURS, MARKS = (BLUE, ORANGE, GREEN, VERMILION, GREY), ("o", "s", "^", "D", "v")  # told apart by shape as well
HATCHES = ("", "///", "...", "xxx", "---")  # and bars by their filling
_NAME = 16  # letters that fit into a box of the way
_BOX = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": BLUE}


def way(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
    """The graph of tasks/reporting/way.py: two columns from top to bottom, counts on the arrows."""
    places = {node["name"]: (0.41 + 0.42 * node["column"], -float(node["row"])) for node in nodes}
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.52 * (max(node["row"] for node in nodes) + 1)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 1), ylim=(min(y for _, y in places.values()) - 0.6, 0.5))
        axes.set_axis_off()
        for edge in edges:
            _arrow(axes, edge["text"], *(_end(edge[one], places[edge[one]], places[edge[other]]) for one, other in (("from", "to"), ("to", "from"))))
        for node in nodes:
            x, y = places[node["name"]]
            axes.text(x, y, cut(node["name"], _NAME), ha="center", va="center", bbox=_BOX, zorder=3)
            if node["note"]:
                colour = VERMILION if "dropped" in node["note"] else GREY
                place = {"x": x, "y": y - 0.38, "ha": "center"} if node["column"] else {"x": x - 0.2, "y": y, "ha": "right"}
                axes.text(s=node["note"], va="center", fontsize=8, color=colour, **place)
        told = (f"{edge['from']} to {edge['to']}" + (f", {edge['text']}" if edge["text"] else "") for edge in edges)
        return svg(figure, "The way from crawl to model: " + "; ".join(told) + ".")


def _end(name: str, own: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Where an arrow touches a box: above or below it, or at the side that faces the other column."""
    if own[0] == other[0]:
        return own[0], own[1] + (0.25 if other[1] > own[1] else -0.25)
    half = 0.0106 * len(cut(name, _NAME)) + 0.01  # of the box, in parts of the picture's width
    return own[0] + (half if other[0] > own[0] else -half), own[1]


def _arrow(axes: Any, text: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    right = start[0] == end[0] and start[0] > 0.5
    far = start[0] == end[0] and start[1] - end[1] > 1  # past other boxes: around them, on the outer side
    bend = 0.0 if not far else -0.25 if right else 0.25
    style = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0, "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops=style)
    if text:
        level = start[0] == end[0]
        share = 0.5 if level else 0.7  # of the arrow, nearer to where what is counted goes
        middle = start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
        beside = level and not right  # the right column has no room beside its arrows
        axes.annotate(
            text, middle, xytext=(5 if beside else 0, 0), textcoords="offset points", va="center", ha="left" if beside else "center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8}, zorder=5,
        )  # fmt: skip


def intervals(rows: Sequence[Mapping[str, Any]], axis: str, reference: float | None = None) -> str:
    """Figures with their intervals, one row each: `label`, `value`, `low`, `high`, `group`; one colour and shape a group."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    with rc_context(STYLE):
        figure, axes = plot(WIDTH, 0.3 * len(rows) + 0.9, labels=[row["label"] for row in rows])
        if reference is not None:
            axes.axvline(reference, color=GREY, linewidth=1, linestyle=":")
        for place, row in enumerate(rows):
            kind = groups.index(row["group"]) % len(COLOURS)
            axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[kind], linewidth=2)
            axes.plot([row["value"]], [place], MARKS[kind], color=COLOURS[kind], markersize=6)
        axes.set(yticks=range(len(rows)), yticklabels=shortened([row["label"] for row in rows]), xlim=(-0.02, 1.02))
        axes.set_xlabel(axis, loc="right")  # it may be longer than the axis: then it reaches under the labels
        axes.invert_yaxis()
        told = (f"{row['label']}: {row['value']:.3g}, from {row['low']:.3g} to {row['high']:.3g}" for row in rows)
        return svg(figure, f"{axis}, with 95% intervals. " + "; ".join(told) + ".")


def grouped_bars(values: Mapping[str, Mapping[str, float]], axis: str) -> str:
    """Bars by outer key (a language), one for each inner key (a model)."""
    inner = list(dict.fromkeys(name for own in values.values() for name in own))
    width = 0.8 / max(1, len(inner))
    columns = max(1, min(3, int(WIDTH / (LETTER * max(map(len, inner), default=1) + 0.55))))  # of the legend
    with rc_context(STYLE):
        figure, axes = plot(WIDTH, 2.6, below=0.45 + 0.2 * math.ceil(len(inner) / columns))
        for place, name in enumerate(inner):
            at = [number + (place - (len(inner) - 1) / 2) * width for number in range(len(values))]
            look: Any = {"color": COLOURS[place % len(COLOURS)], "hatch": HATCHES[place % len(HATCHES)], "edgecolor": "white", "linewidth": 0}
            bars = axes.bar(at, [own.get(name, 0.0) for own in values.values()], width, label=cut(name, 40), **look)
            axes.bar_label(bars, fmt="%.2f", fontsize=7)
        axes.set(xticks=range(len(values)), xticklabels=list(values), ylabel=axis)
        axes.legend(frameon=False, ncols=min(columns, len(inner)), loc="upper center", bbox_to_anchor=(0.5, -0.1))
        told = (f"{outer}: " + ", ".join(f"{name} {value:.3g}" for name, value in own.items()) for outer, own in values.items())
        return svg(figure, f"{axis}. " + "; ".join(told) + ".")


def reward_against_kl(pictures: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """Rewards over KL: of each title's curves one picture, since rewards on training prompts and held-out ones have other units."""
    return "".join(_rewards(title, curves) for title, curves in pictures.items())


def _rewards(title: str, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The points of a long run stand alone: they go to and fro. Few points say which step, or the best of how many, they are."""
    every = [point for points in curves.values() for point in points]
    wide, high = (max(point[key] for point in every) - min(point[key] for point in every) or 1.0 for key in ("kl", "reward"))
    marked: list[tuple[float, float]] = []  # about where words stand: none is written over another's
    with rc_context(STYLE):
        figure, axes = plot(WIDTH if len(curves) > 1 else 2.9, 2.6)
        for place, (name, points) in enumerate(curves.items()):
            axes.plot(
                [point["kl"] for point in points], [point["reward"] for point in points], marker=MARKS[place % len(MARKS)], markersize=4,
                color=COLOURS[place % len(COLOURS)], linewidth=1, linestyle="-" if len(points) < 10 else "none", label=name,
            )  # fmt: skip
            for point in points if len(points) < 10 else ():
                side = 1 if place == 0 else -1
                at = point["kl"] + 0.1 * side * wide, point["reward"] - 0.06 * side * high
                if any(abs(at[0] - x) < 0.16 * wide and abs(at[1] - y) < 0.07 * high for x, y in marked):
                    continue
                marked.append(at)
                mark = f"N={point['n']}" if "n" in point else f"step {point['step']}"
                below: Any = {"xytext": (5, -9)} if place == 0 else {"xytext": (-5, 4), "ha": "right"}  # of the first curve; of others above
                axes.annotate(mark, (point["kl"], point["reward"]), textcoords="offset points", fontsize=7, **below)
        axes.set(xlabel="KL to the model it began from, nats", ylabel="reward", title=title)
        axes.margins(0.25, 0.12)  # room for the words
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8)
        words = (f"{name} from {points[0]['reward']:.3g} at {points[0]['kl']:.3g} nats to {points[-1]['reward']:.3g} at {points[-1]['kl']:.3g}" for name, points in curves.items())
        return svg(figure, f"Reward against KL, {title}: " + "; ".join(words) + ".")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """How often the reward model is right against how sure it is; on the dotted line its confidence is the truth. Each point says of
    how many pairs it is: a few prove little."""
    with rc_context(STYLE):
        figure, axes = plot(WIDTH, 2.7)
        axes.plot([0.5, 1], [0.5, 1], color=GREY, linestyle=":", linewidth=1)
        most = max((row["pairs"] for row in bins), default=1)
        axes.scatter([row["confidence"] for row in bins], [row["accuracy"] for row in bins], s=[12 + 120 * row["pairs"] / most for row in bins], color=BLUE, alpha=0.8)
        for row in bins:
            axes.annotate(f"{row['pairs']:,}", (row["confidence"], row["accuracy"]), xytext=(-6, 5), textcoords="offset points", ha="right", fontsize=7, color=GREY)
        axes.set(xlabel="how sure the reward model is of its order", ylabel="share right", xlim=(0.48, 1.02), ylim=(-0.03, 1.1))
        told = (f"{row['confidence']:.0%} sure, {row['accuracy']:.0%} right of {row['pairs']:,}" for row in bins)
        return svg(figure, "Calibration of the reward model: " + "; ".join(told) + ".")


def differences(rows: Sequence[Mapping[str, Any]], old: str, new: str) -> str:
    """Differences of two evaluations, by their names, with their intervals, one row each: `label`, `value`, `low`, `high`, `text`, `verdict`. Every row has a scale of its
    own, the zero is common. Shape and colour both say the verdict."""
    marks = {"better": ("^", GREEN), "worse": ("v", VERMILION), "changed": ("D", BLUE)}
    with rc_context(STYLE):
        figure, axes = plot(8.0, 0.32 * len(rows) + 0.8, labels=[row["label"] for row in rows])
        axes.axvline(0, color=GREY, linewidth=1)
        for place, row in enumerate(rows):
            scale = max(abs(row["low"]), abs(row["high"]), abs(row["value"])) or 1.0
            mark, colour = marks.get(row["verdict"], ("o", GREY))
            axes.plot([row["low"] / scale, row["high"] / scale], [place, place], color=colour, linewidth=2)
            axes.plot([row["value"] / scale], [place], mark, color=colour, markersize=6)
            axes.annotate(row["text"], (1.12, place), va="center", annotation_clip=False)
        axes.set(yticks=range(len(rows)), yticklabels=shortened([row["label"] for row in rows], 8.0), xlim=(-1.1, 3.6), xticks=[0], xticklabels=["no difference"])
        # a bar beside the zero may still be "no difference shown": of many figures some lie there by chance
        axes.set_xlabel("bars: 95% intervals, each figure by itself; words: corrected for testing all of them (Holm)", fontsize=8)
        axes.set_title(f"A: {cut(old, 48)}   B: {cut(new, 48)}".replace("$", r"\$"), fontsize=8, loc="right")
        axes.invert_yaxis()
        return svg(figure, f"Differences of {old} and {new}: " + "; ".join(f"{row['label']} {row['text']}" for row in rows) + ".")
