"""Curves for a stage's page in the UI. By hand: matplotlib takes a second of a slow processor for every stage, in which nothing else is made."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

BLUE = "#0072B2"  # as in charts.py
COLUMNS = 3  # the UI shows a picture as wide as its column: more in a row could not be read
WIDTH, HEIGHT = 240, 160  # pixels of one curve with its labels: three fill the column with letters that can be read
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 26, 22  # pixels of these that belong to the labels


def sketch(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Each curve, points (step, value) in the order of their steps, in a small picture of its own; all of them as one SVG document.

    At the axes stand the lowest and the highest value, the first and the last step.
    """
    columns = min(COLUMNS, len(curves))
    places = [(place % columns * WIDTH, place // columns * HEIGHT) for place in range(len(curves))]
    drawn = [f'<g transform="translate({x} {y})">{_curve(name, points)}</g>' for (x, y), (name, points) in zip(places, curves.items(), strict=True)]
    width, height = columns * WIDTH, -(-len(curves) // columns) * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(drawn)}</svg>'
    )


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    across, up = (right - LEFT) / ((last - first) or 1), (bottom - TOP) / ((high - low) or 1)
    line = " ".join(f"{LEFT + (step - first) * across:.1f},{bottom - (value - low) * up:.1f}" for step, value in points)
    return (
        f'<text x="{LEFT}" y="16" font-size="13">{html.escape(name)}</text>'
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#888"/>'
        f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>'
        f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{high:.3g}</text><text x="{LEFT - 4}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{first:g}</text><text x="{right}" y="{HEIGHT - 8}" text-anchor="end">step {last:g}</text>'
    )
