"""The one picture that every run draws anew, also one that made nothing: by hand, since matplotlib takes a second to import."""

from __future__ import annotations

import html
from collections.abc import Mapping

BLUE = "#0072B2"  # as in charts.py
ROW, LETTER, BARS, ROOM = 22, 7, 190, 50  # pixels: height of a row, width of a letter, the longest bar, room for its number


def duration_bars(seconds: Mapping[str, float]) -> str:
    """Time of each stage, the longest first, as an SVG element that may stand in a page."""
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    longest = max([value for _, value in rows], default=0.0) or 1.0
    left = LETTER * max([len(name) for name, _ in rows], default=0) + 6
    bars = [
        f'<text x="{left - 6}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
        f'<rect x="{left}" y="{y + 3}" width="{max(1.0, BARS * value / longest):.1f}" height="{ROW - 6}" fill="{BLUE}"/>'
        f'<text x="{left + BARS * value / longest + 5:.1f}" y="{y + 15}">{value:.1f}</text>'
        for y, (name, value) in zip(range(0, ROW * len(rows), ROW), rows, strict=True)
    ]
    words = "Seconds of each stage: " + ", ".join(f"{name} {value:.1f}" for name, value in rows) + "."
    width, height = left + BARS + ROOM, ROW * (len(rows) + 1)
    return (
        f'<svg role="img" aria-label="{html.escape(words)}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(bars)}<text x="{left}" y="{height - 6}">seconds</text></svg>'
    )
