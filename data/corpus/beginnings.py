"""What texts begin with that a regular expression matches: read off the expression, so that no text need be tried."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants as ops  # type: ignore[attr-defined]  # how Python itself reads expressions
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

END = "\n"  # of a text that is one line
_MOST = 1 << 8  # characters of a range that are told apart

Item = tuple[Any, Any]  # an operator and its argument, as re parses them
Expression = tuple[Item, ...]
Step = tuple[frozenset[str] | None, Expression]  # characters that may come next (None: any) and what follows them
_CLASSES = {ops.CATEGORY_DIGIT: "0", ops.CATEGORY_SPACE: " "}


class _Outlines(dict[int, str]):
    """Of each character, by its number, what stands for it; filled as they are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = "0" if char.isdecimal() else " " if char.isspace() else char
        return self[code]


_OUTLINES = _Outlines()


def outline(text: str) -> str:
    """`text` with one sort of figure and one of white space, as beginnings are told apart."""
    return text.translate(_OUTLINES)


def beginnings(pattern: str, size: int, room: int) -> list[str]:
    """Outlines of which every line that `pattern` matches as a whole begins with one: of `size` characters; of fewer where the line ends
    there (END is the last), anything may follow, or there would be more than about `room`. Raises re.error for what is no regular
    expression.
    """
    tree = parser.parse(pattern)
    if tree.state.flags != re.UNICODE:  # they change what its characters match
        return [""]
    return _beginnings([tuple(tree)], size, room)


def _beginnings(expressions: Sequence[Expression], size: int, room: int) -> list[str]:
    """Those of lines that any of `expressions` matches."""
    if not size:
        return [""]
    following: dict[str, list[Expression]] = {}
    may_end = False
    for expression in expressions:
        steps, may_be_empty = _steps(expression)
        may_end |= may_be_empty
        for chars, rest in steps:
            if chars is None:
                return [""]
            for char in chars:
                following.setdefault(char, []).append(rest)
    if len(following) > room:
        return [""]
    found = [END] if may_end else []
    tails: dict[tuple[int, ...], list[str]] = {}  # what follows the characters of a class is the same
    for char, rests in following.items():
        same = tuple(map(id, rests))
        if same not in tails:
            tails[same] = _beginnings(rests, size - 1, room // len(following))
        found += [char + tail for tail in tails[same]]
    return found


def _steps(items: Sequence[Item]) -> tuple[list[Step], bool]:
    """First characters with the expressions of what follows, and whether nothing at all need come: the linear form of partial
    derivatives (Antimirov 1996).
    """
    steps: list[Step] = []
    for place, item in enumerate(items):
        own, may_be_empty = _steps_of(*item)
        behind = tuple(items[place + 1 :])
        steps += [(chars, rest + behind) for chars, rest in own]
        if not may_be_empty:
            return steps, False
    return steps, True


def _steps_of(op: Any, of: Any) -> tuple[list[Step], bool]:
    if op is ops.LITERAL:
        return [(frozenset(outline(chr(of))), ())], False
    if op is ops.IN:
        return [(_characters(of), ())], False
    if op in (ops.AT, ops.ASSERT, ops.ASSERT_NOT):  # a border, or what must or must not stand around it: without a character of its own
        return [], True
    if op is ops.BRANCH:
        branches = [_steps(branch) for branch in of[1]]
        return [step for steps, _ in branches for step in steps], any(may_be_empty for _, may_be_empty in branches)
    if op is ops.SUBPATTERN and not (of[1] or of[2]):  # no flags of its own
        return _steps(of[3])
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
        least, most, repeated = of
        steps, may_be_empty = _steps(repeated)
        again = ((op, (max(least - 1, 0), most if most is ops.MAXREPEAT else most - 1, repeated)),) if most > 1 else ()
        return [(chars, rest + again) for chars, rest in steps], may_be_empty or not least
    return [(None, ())], True  # '.', what is not a character, and all that is seldom


def _characters(options: Iterable[Item]) -> frozenset[str] | None:
    """The outlines of a class's characters; None for one that has very many."""
    found: set[str] = set()
    for op, of in options:
        if op is ops.LITERAL:
            found.add(outline(chr(of)))
        elif op is ops.RANGE and of[1] - of[0] < _MOST:
            found |= {outline(chr(code)) for code in range(of[0], of[1] + 1)}
        elif op is ops.CATEGORY and of in _CLASSES:
            found.add(_CLASSES[of])
        else:
            return None
    return frozenset(found)
