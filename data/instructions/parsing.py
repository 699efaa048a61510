"""Reads what a teacher wrote: numbered items with Instruction, Input and Output, in English or Chinese.

    4. Instruction: Which river runs through Aldermoor?
    Input: <noinput>
    Output: The Silverrun runs through Aldermoor.
    ###
    5. Instruction: ...

Teachers keep to this loosely: numbers restart, stand on a line of their own or are left out, colons and digits are of either width,
marks come in bold, in 【】 or as headings, rules stand where the separator should, an input that is none is said in many ways. All
this is read; what still has no such parts is `unparsable`. A mark inside a code block marks nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

_GAP = r"[ \t\u3000\xa0]{0,8}"  # bounded, so that a line of blanks is not tried in every way
_BOLD = r"(?:\*\*|__)?"
_DIGITS = r"[\d一二三四五六七八九十]{1,9}"
_TASK = r"(?:Task|Example|任务|任務|示例|例|第|No\.?)"
# `4.`, `(4)`, `**Task 4:**`, `第四条：`, `任务4`; what it numbers may begin on a later line.
_NUMBER = (
    rf"(?:{_BOLD}(?:{_TASK}?{_GAP}#?[(（\[]?{_DIGITS}{_GAP}[条个题]?{_GAP}[.．、)）\]:：]|{_TASK}{_GAP}#?{_DIGITS})"
    rf"{_GAP}{_BOLD}{_GAP}(?:\n{_GAP}){{0,3}})?"
)
_HEADING = r"#{1,6}[ \t]{1,8}"
_BULLET = r"[-*•>][ \t]{1,8}"


def at_line_start(*names: str) -> re.Pattern[str]:
    """`Input:`, `**Input**:`, `2. Input :`, `【Input】`, `### Input` at the start of a line, with one of `names`."""
    name = rf"(?:{'|'.join(names)}){_GAP}\d{{0,4}}"
    with_colon = rf"(?:{_HEADING}|{_BULLET})?{_NUMBER}(?:{_BULLET})?{_BOLD}[【\[(（]?{name}{_GAP}{_BOLD}[】\])）]?{_BOLD}{_GAP}[:：]"
    in_brackets = rf"{_NUMBER}{_BOLD}【{name}】{_BOLD}"
    alone = rf"(?:(?:{_HEADING}|\*\*){_NUMBER}{_BOLD}|{_NUMBER}\*\*){name}{_BOLD}{_GAP}$"
    return re.compile(rf"^{_GAP}(?:{with_colon}|{in_brackets}|{alone}){_GAP}", re.MULTILINE | re.IGNORECASE)


SEPARATOR = re.compile(rf"^{_GAP}#{{2,9}}{_GAP}$", re.MULTILINE)
_HEADER = at_line_start("Instruction", "指令", "指示")
INPUT = at_line_start("Input", "输入", "輸入")
_OUTPUT = at_line_start("Output", "输出", "輸出")
_OTHER_OUTPUT = at_line_start("Response", "Answer", "回答", "答案")  # where the one that was asked for is missing
_BRACKETS = r"[\\`*<\[＜【(（「]|&lt;"
_CLOSING = r"[\\/`*>\]＞】)）」.。]|&gt;"
_NONE = r"(?:no\s*input|none)(?:\s+(?:needed|required|provided))?|n/?a|[无無]|无输入|無輸入|(?:无需|不需要|没有)输入"
NO_INPUT = re.compile(rf"(?:{_BRACKETS}){{0,4}}\s*(?:{_NONE})\s*(?:{_CLOSING}){{0,5}}|[-–—/]{{1,3}}", re.IGNORECASE)
_RULE = re.compile(r"[-*_=]{3,}|#{2,9}")
_FENCE = "```"


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
    """Split at separator lines and before every header; pieces without a word, and rules between them, are none."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    seen = _without_code(text)
    cuts = {0, len(text)} | {match.start() for match in header.finditer(seen)}
    for match in SEPARATOR.finditer(seen):
        cuts |= {match.start(), match.end()}
    found = (_tidied(text[start:end]) for start, end in pairwise(sorted(cuts)))
    return [piece for piece in found if piece]


def _item(position: int, piece: str) -> Item:
    header = _HEADER.match(piece)
    if header is None:
        return Item(position, piece, reason="unparsable")
    head, output = cut_output(behind(header, piece))
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
    match = pattern.search(_without_code(text))
    return (text, None) if match is None else (text[: match.start()], behind(match, text))


def cut_output(text: str) -> tuple[str, str | None]:
    """The same with the mark of the output."""
    head, output = cut(text, _OUTPUT)
    return (head, output) if output is not None else cut(text, _OTHER_OUTPUT)


def behind(mark: re.Match[str], text: str) -> str:
    """What stands behind `mark`, without the other end of bold letters that began before it."""
    said = text[mark.end() :]
    for bold in ("**", "__"):
        if mark[0].count(bold) % 2:
            if said.startswith(bold):
                return said[len(bold) :]
            first, newline, more = said.partition("\n")
            return first.rstrip().removesuffix(bold) + newline + more
    return said


def _tidied(text: str) -> str:
    """`text` without the rules, separators and lone fences at its end: they are between items."""
    lines = text.split("\n")
    while lines and (_RULE.fullmatch(line := lines[-1].strip()) or not line or (line.startswith(_FENCE) and _fences(lines) % 2)):
        lines.pop()
    return re.sub(r"#{3,9}$", "", "\n".join(lines)).strip()


def _fences(lines: list[str]) -> int:
    return sum(line.count(_FENCE) % 2 for line in lines)


def _without_code(text: str) -> str:
    """`text` with its code blocks blanked, as long as before. One that holds a whole item is no code, nor one that never ends."""
    if _FENCE not in text:
        return text
    lines, opened = text.split("\n"), None
    for number, line in enumerate(lines):
        if line.count(_FENCE) % 2 == 0:
            continue
        if opened is None:
            opened = number
            continue
        if not _HEADER.search("\n".join(lines[opened : number + 1])):
            before = lines[opened].partition(_FENCE)[0]
            blanks = ["\0" * len(inner) for inner in lines[opened : number + 1]]
            lines[opened : number + 1] = [before + blanks[0][len(before) :], *blanks[1:]]
        opened = None
    return "\n".join(lines)
