"""Reads what a teacher wrote: numbered items with Instruction, Input and Output, in English or Chinese.

    4. Instruction: Which river runs through Aldermoor?
    Input: <noinput>
    Output: The Silverrun runs through Aldermoor.
    ###
    5. Instruction: ...

Teachers keep to this loosely: numbers restart or are left out, colons are of either width, marks come in bold, the
separator or the input line is missing. All this is read; what still has no such parts is `unparsable`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from data.instructions.shapes import NO_INPUT

_BOLD = r"(?:\*\*|__)?"
_NUMBER = r"(?:(?:Task|任务|No\.?)?[ \t#]*[(（]?\d+[ \t]*[.．、)）:：][ \t]*)?"


def _mark(*names: str) -> str:
    # "Input:" or "**Input**:" or "Input :" at the start of a line
    return rf"{_BOLD}[ \t]*(?:{'|'.join(names)})[ \t]*{_BOLD}[ \t]*[:：][ \t]*{_BOLD}"


_SEPARATOR = re.compile(r"^[ \t]*#{2,}[ \t]*$", re.MULTILINE)
_HEADER = re.compile(rf"^[ \t]*{_BOLD}{_NUMBER}{_mark('Instruction', '指令', '指示')}", re.MULTILINE | re.IGNORECASE)
_INPUT = re.compile(rf"^[ \t]*{_NUMBER}{_mark('Input', '输入')}", re.MULTILINE | re.IGNORECASE)
_OUTPUT = re.compile(rf"^[ \t]*{_NUMBER}{_mark('Output', '输出', '回答')}", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One item of a completion. `output` is None where no output was marked; `reason` is set where it is unusable."""

    position: int  # from 0, over everything between separators and headers
    text: str  # as the teacher wrote it
    instruction: str = ""
    input: str = ""
    output: str | None = None
    reason: str | None = None  # truncated, unparsable, no_output


def parse(text: str, finish_reason: str) -> list[Item]:
    """The items of a completion, in order. Of a completion cut at its length (`length`) the last is `truncated`.

    A completion that ends with a separator was cut after its last item, which is then whole.
    """
    pieces = _pieces(text)
    cut = finish_reason == "length" and not re.search(r"#{2,}\s*\Z", text)
    items = []
    for position, piece in enumerate(pieces):
        item = _item(position, piece)
        if cut and position == len(pieces) - 1:
            item = Item(position, piece, item.instruction, item.input, item.output, "truncated")
        items.append(item)
    return items


def _pieces(text: str) -> list[str]:
    """Split at separator lines and before every header; blank pieces are no items."""
    pieces = []
    for block in _SEPARATOR.split(text.replace("\r\n", "\n")):
        starts = [match.start() for match in _HEADER.finditer(block)]
        bounds = [0, *(start for start in starts if start), len(block)]
        pieces += [block[start:end].strip() for start, end in pairwise(bounds)]
    return [piece for piece in pieces if piece]


def _item(position: int, piece: str) -> Item:
    header = _HEADER.match(piece)
    if header is None:
        return Item(position, piece, reason="unparsable")
    body = piece[header.end() :]
    head, output = _cut(body, _OUTPUT)
    instruction, given = _cut(head, _INPUT)
    if not instruction.strip():
        return Item(position, piece, reason="unparsable")
    given = (given or "").strip()
    return Item(
        position, piece, instruction.strip(), "" if NO_INPUT.fullmatch(given) else given,
        None if output is None else output.strip(), None if output is not None else "no_output",
    )  # fmt: skip


def _cut(text: str, pattern: re.Pattern[str]) -> tuple[str, str | None]:
    match = pattern.search(text)
    return (text, None) if match is None else (text[: match.start()], text[match.end() :])
