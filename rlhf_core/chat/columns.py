"""Text for a terminal: two streams side by side, line by line as they grow, Chinese characters two cells wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import zip_longest


def shown(text: str) -> str:
    """Without control characters: what a model writes must not steer the terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs"))


def cells(text: str) -> int:
    """Cells that a text takes in a terminal (Unicode Standard Annex 11)."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def wrapped(pieces: Iterable[str], width: int) -> Iterator[str]:
    """Lines of at most `width` cells as soon as they are whole, broken at blanks or between Chinese characters."""
    line = ""
    for piece in pieces:
        line += piece.replace("\t", " ")
        while "\n" in line or cells(line) > width:
            head, line = _break(line, width)
            yield head
    if line:
        yield line


def _break(line: str, width: int) -> tuple[str, str]:
    """The first line of a text that has a newline or is too wide, and the rest."""
    newline = line.find("\n")
    if newline >= 0 and cells(line[:newline]) <= width:
        return line[:newline], line[newline + 1 :]
    end = used = 0
    while end < len(line) and used + cells(line[end]) <= width:
        used += cells(line[end])
        end += 1
    end = max(end, 1)  # a character wider than the column
    blank = line.rfind(" ", 0, end + 1)
    if blank > 0 and cells(line[end - 1]) == 1 and line[end : end + 1] != " ":
        return line[:blank], line[blank + 1 :]
    return line[:end], line[end:].removeprefix(" ")


def side_by_side(left: Iterable[str], right: Iterable[str], width: int) -> Iterator[str]:
    """Two streams in columns of a screen `width` cells wide; a row comes when both have it."""
    column = max(1, (width - 3) // 2)
    for one, other in zip_longest(wrapped(left, column), wrapped(right, column), fillvalue=""):
        yield f"{one}{' ' * (column - cells(one))} │ {other}".rstrip()
