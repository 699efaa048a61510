"""The verdict in what a judge wrote about two answers called A and B."""

from __future__ import annotations

import re
from typing import Literal

from data.instructions.thoughts import without_thoughts

Verdict = Literal["A", "B", "TIE"]

_LABELS: dict[str, Verdict] = {"A": "A", "B": "B", "TIE": "TIE", "平局": "TIE", "平手": "TIE"}
_LABEL = re.compile(r"(?<![A-Za-z])(A|B|[Tt]ie|TIE|平局|平手)(?![A-Za-z])")
_MARKS = " *_`\"'[](){}.,!。，！:：「」【】"


def read_verdict(text: str) -> Verdict | None:
    """What stands alone on the last line, or on the first, or ends the last as the one label that it names (`Verdict: B`); else the one
    label that is named at all; None where there is none."""
    lines = [line.strip(_MARKS) for line in without_thoughts(text).splitlines() if line.strip(_MARKS)]
    for line in (lines[-1], lines[0]) if lines else ():
        if _LABEL.fullmatch(line):
            return _LABELS[line.upper()]
    last = _LABEL.findall(lines[-1]) if lines else []
    if len(set(last)) == 1 and lines[-1].endswith(last[0]):
        return _LABELS[last[0].upper()]
    named = {_LABELS[label.upper()] for line in lines for label in _LABEL.findall(line)}
    return named.pop() if len(named) == 1 else None
