"""The sentence filter: lines that are chrome or filler are cut out; a document that is mostly such lines is dropped.

Line corrections after RefinedWeb (Penedo et al. 2023, G.2: counters, numbers, capitals, calls to act) and C4 (javascript
and policy notices), with a list of patterns in English and Chinese, lists/boilerplate_lines.txt, where simplified characters stand for both scripts.
"""

from __future__ import annotations

import re
from enum import IntFlag
from functools import cache, lru_cache
from importlib import resources
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import kernels
from data.corpus.host_lines import line_key, read_host_lines, site_of, stands_in
from data.corpus.line_patterns import LinePatterns
from data.document import Decided, Verdict, decide, label_schema, text_array, values, views
from data.settings import LineSettings

_SHORT_CHARACTERS = 200  # longer lines are prose, and not matched; data/kernels/lines.c has it too
_CODE_OR_TABLE = re.compile(r"[\s(){}\[\];,]*|\|.*\w.*\|")  # closing brackets; a row of figures
_SEPARATED = re.compile(r"\s*[|»›·•／丨]\s*|\s+[>/–—-]\s+")
_CODE = re.compile(r"[=;{}$]|:$|\w\(|\s--?\w|^(?:cat|curl|echo|find|git|grep|ls|ps|sudo) ")  # of which menus have nothing
_NO_KEYS: NDArray[np.int64] = np.zeros(0, np.int64)
_Text = TypeVar("_Text", str, memoryview)  # of UTF-8
LINE_LABELS = label_schema({"removed_lines": pa.int64(), "removed_characters_share": pa.float32()})


@cache
def _patterns() -> LinePatterns:
    text = (resources.files("data.corpus") / "lists" / "boilerplate_lines.txt").read_text(encoding="utf-8")
    return LinePatterns(_in_every_script([line for line in text.splitlines() if line and not line.startswith("#")]))


def _in_every_script(patterns: list[str]) -> list[str]:
    """The patterns, and those with simplified characters once more in traditional ones and once in the words of Taiwan (OpenCC)."""
    from opencc import OpenCC

    forms = [patterns, *(OpenCC(name).convert("\n".join(patterns)).split("\n") for name in ("s2t", "s2twp"))]
    return list(dict.fromkeys(pattern for form in forms for pattern in form))


class Mark(IntFlag):
    """What data/kernels/lines.c sees of a line."""

    LETTERLESS = 1
    SHOUTED = 2  # mainly of capitals
    SEPARATED = 4  # three separators or more, no table's row and no end of a sentence
    ENDLESS = 8  # a word of more than a thousand characters


_CHROME = int(Mark.SHOUTED | Mark.ENDLESS)  # a line with one of these is chrome
_LETTERLESS, _SEPARATED_MARK = int(Mark.LETTERLESS), int(Mark.SEPARATED)  # plain, for speed


def is_boilerplate(line: str) -> bool:
    """Whether a trimmed line is chrome, by itself alone."""
    return clean_lines(line)[1] == 1


def _is_chrome(line: str, marks: int) -> bool:
    if marks & _LETTERLESS:
        return _CODE_OR_TABLE.fullmatch(line) is None
    return len(line) <= _SHORT_CHARACTERS and (_is_known(line) or (marks & _SEPARATED_MARK != 0 and _is_menu(line)))


@lru_cache(maxsize=1 << 14)  # chrome repeats from page to page
def _is_known(line: str) -> bool:
    return _patterns().fullmatch(line.lower())


def _is_menu(line: str) -> bool:
    """Four or more short pieces between separators: "Home | News | Weather | Contact". Alternatives and pipes of code are none."""
    if _CODE.search(line):
        return False
    pieces = [piece for piece in _SEPARATED.split(line) if piece]
    return len(pieces) >= 4 and max(map(len, pieces)) <= 25


def filter_lines(documents: pa.Table, settings: LineSettings, *, host_lines: Path | None = None) -> Decided:
    """Documents without their chrome, and LINE_LABELS of those kept.

    `host_lines` is what `find_host_lines` wrote. Reason: mostly_boilerplate (value: share of characters cut).
    """
    repeated = read_host_lines(host_lines) if host_lines is not None else _NO_KEYS
    texts: list[memoryview] = []
    counts: list[int] = []
    shares: list[float] = []
    verdicts: list[Verdict | None] = []
    sites = map(site_of, values(documents, "url")) if len(repeated) else repeat("")
    for text, site in zip(views(documents, "text"), sites, strict=False):
        kept, removed, share = clean_lines(text or memoryview(b""), site, repeated)
        texts.append(kept)
        counts.append(removed)
        shares.append(share)
        over = share > settings.max_removed_share or not kept
        verdicts.append(("mostly_boilerplate", f"{share:.3f}") if over else None)
    at = documents.schema.get_field_index("text")
    decided = decide(documents.set_column(at, documents.schema.field(at), text_array(texts)), verdicts)
    stay = [verdict is None for verdict in verdicts]
    labels = pa.table([documents["id"], counts, pa.array(shares, pa.float32())], schema=LINE_LABELS)
    return Decided(decided.kept, decided.dropped, labels.filter(pa.array(stay, pa.bool_())))


def clean_lines(text: _Text, host: str = "", repeated: NDArray[np.int64] = _NO_KEYS) -> tuple[_Text, int, float]:
    """`text` without boilerplate, lines that stood before and lines of `repeated`; lines cut and their share of
    characters. Blank lines stay, one at a time.
    """
    patterns, some_repeat = _patterns(), len(repeated) > 0

    def is_cut(line: str, marks: int) -> bool:
        return _is_chrome(line, marks) or (some_repeat and stands_in(line_key(host, line), repeated))

    kept, removed, cut, characters = kernels.cut_lines(text, patterns.words, patterns.beginnings, is_cut, _CHROME, some_repeat)
    return kept, removed, cut / max(characters, 1)
