"""What was planned beside what was read, source by source and phase by phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def compare(plan: Mapping[str, Any], read: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
    """Rows {phase, source, planned, read, share, epochs}: `epochs` are passes over the source up to the phase's end, as read.

    Phases that were not reached have read 0.
    """
    rows: list[dict[str, Any]] = []
    upto: Counter[str] = Counter()
    for number, phase in enumerate(plan["phases"]):
        taken = read[number] if number < len(read) else {}
        for name, planned in phase["read"].items():
            upto[name] += taken.get(name, 0)
            available = plan["sources"][name]["tokens"]
            rows.append({
                "phase": phase["name"], "source": name, "planned": planned, "read": taken.get(name, 0),
                "share": round(phase["sources"][name], 6), "epochs": round(upto[name] / available, 4),
            })  # fmt: skip
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for a person."""
    lines = ["| phase | source | planned tokens | read tokens | share | epochs so far |", "|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['phase']} | {row['source']} | {row['planned']:,} | {row['read']:,} | {row['share']:.1%} | {row['epochs']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)
