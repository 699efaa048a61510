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

from data.instructions.drafts import NO_INPUT

_GAP = r"[ \t]{0,8}"  # bounded, so that a line of blanks is not tried in every way
_BOLD = r"(?:\*\*|__)?"
_NUMBER = rf"(?:(?:Task|任务|No\.?)?{_GAP}#?[(（]?\d{{1,9}}{_GAP}[.．、)）:：]{_GAP})?"


def at_line_start(*names: str) -> re.Pattern[str]:
    """`Input:`, `**Input**:`, `2. Input :` at the start of a line, with one of `names`."""
    mark = rf"{_BOLD}(?:{'|'.join(names)}){_GAP}{_BOLD}{_GAP}[:：]{_GAP}{_BOLD}"
    return re.compile(rf"^{_GAP}{_BOLD}{_NUMBER}{mark}", re.MULTILINE | re.IGNORECASE)


SEPARATOR = re.compile(rf"^{_GAP}#{{2,9}}{_GAP}$", re.MULTILINE)
_HEADER = at_line_start("Instruction", "指令", "指示")
INPUT = at_line_start("Input", "输入")
OUTPUT = at_line_start("Output", "输出", "回答")


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
    found = pieces(text, _HEADER)
    is_cut = finish_reason == "length" and not text.rstrip().endswith("##")
    items = []
    for position, piece in enumerate(found):
        item = _item(position, piece)
        if is_cut and position == len(found) - 1:
            item = Item(position, piece, item.instruction, item.input, item.output, "truncated")
        items.append(item)
    return items


def pieces(text: str, header: re.Pattern[str]) -> list[str]:
    """Split at separator lines and before every header; blank pieces are no items."""
    found = []
    for block in SEPARATOR.split(text.replace("\r\n", "\n")):
        starts = [match.start() for match in header.finditer(block)]
        bounds = [0, *(start for start in starts if start), len(block)]
        found += [block[start:end].strip() for start, end in pairwise(bounds)]
    return [piece for piece in found if piece]


def _item(position: int, piece: str) -> Item:
    header = _HEADER.match(piece)
    if header is None:
        return Item(position, piece, reason="unparsable")
    body = piece[header.end() :]
    head, output = cut(body, OUTPUT)
    instruction, given = cut(head, INPUT)
    if not instruction.strip():
        return Item(position, piece, reason="unparsable")
    given = (given or "").strip()
    return Item(
        position, piece, instruction.strip(), "" if NO_INPUT.fullmatch(given) else given,
        None if output is None else output.strip(), None if output is not None else "no_output",
    )  # fmt: skip


def cut(text: str, pattern: re.Pattern[str]) -> tuple[str, str | None]:
    """`text` before and after the first mark; None where there is no mark."""
    match = pattern.search(text)
    return (text, None) if match is None else (text[: match.start()], text[match.end() :])
