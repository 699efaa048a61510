"""The sentence filter: lines that are chrome or filler are cut out; a document that is mostly such lines is dropped.

Line corrections after RefinedWeb (Penedo et al. 2023, G.2: counters, numbers, capitals, calls to act) and C4 (javascript
and policy notices), with a list of patterns in English and Chinese, lists/boilerplate_lines.txt.
"""

from __future__ import annotations

import re
import string
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

import pyarrow as pa

from data.corpus.host_lines import host_of, line_key, read_host_lines
from data.corpus.line_patterns import LinePatterns
from data.document import Decided, Verdict, decide, label_schema
from data.settings import LineSettings

_MAX_PATTERN_CHARACTERS = 200  # longer lines are prose, and not matched
_MIN_REPEATED_CHARACTERS = 12  # shorter lines may stand twice
_MAX_WORD_CHARACTERS = 1000  # C4: a line with a longer word is no text
_CAPITALS_SHARE = 0.6  # RefinedWeb: "mainly composed of uppercase characters"
_SMALL_LETTERS = string.ascii_lowercase.encode()
_NO_LETTER = re.compile(r"[\W\d_]+")
_CODE_OR_TABLE = re.compile(r"[\s(){}\[\];,]*|\|.*\w.*\|")  # closing brackets; a row of figures
_LONG_WORD = re.compile(rf"[!-~]{{{_MAX_WORD_CHARACTERS + 1}}}")
_SEPARATED = re.compile(r"\s*[|»›·•／丨]\s*|\s+[>/–—-]\s+")
_SEPARATOR = re.compile(r"[|»›·•／丨>/–—-]")
_SENTENCE_MARK = re.compile(r"[.!?。！？…][\"'”’」』）)]*$")
LINE_LABELS = label_schema({"removed_lines": pa.int64(), "removed_characters_share": pa.float32()})


@cache
def _patterns() -> LinePatterns:
    text = (resources.files("data.corpus") / "lists" / "boilerplate_lines.txt").read_text(encoding="utf-8")
    return LinePatterns(line for line in text.splitlines() if line and not line.startswith("#"))


@lru_cache(maxsize=1 << 14)  # chrome repeats from page to page
def is_boilerplate(line: str) -> bool:
    """Whether a trimmed line is chrome, by itself alone."""
    if not line[:1].isalpha() and _NO_LETTER.fullmatch(line):
        return _CODE_OR_TABLE.fullmatch(line) is None
    if len(line) > _MAX_PATTERN_CHARACTERS:
        return len(line) > _MAX_WORD_CHARACTERS and _LONG_WORD.search(line) is not None
    return _patterns().fullmatch(line.lower()) or _is_shouted(line) or _is_menu(line)


def _is_shouted(line: str) -> bool:
    seen = line.encode("utf-8", "replace")
    if len(seen) - len(seen.translate(None, _SMALL_LETTERS)) > (1 - _CAPITALS_SHARE) * len(line):
        return False  # seen at once; the letters are counted where this leaves it open
    letters = sum(map(str.isalpha, line))
    capitals = sum(map(str.isupper, line))
    return letters > 15 and capitals > _CAPITALS_SHARE * letters and len(line.split()) > 3


def _is_menu(line: str) -> bool:
    """Four or more short pieces between separators, and no sentence among them: "Home | News | Weather | Contact"."""
    if line.startswith("|") or not _SEPARATOR.search(line) or _SENTENCE_MARK.search(line):  # a table's row, a sentence
        return False
    pieces = [piece for piece in _SEPARATED.split(line) if piece]
    return len(pieces) >= 4 and max(map(len, pieces)) <= 25


def filter_lines(documents: pa.Table, settings: LineSettings, *, host_lines: Path | None = None) -> Decided:
    """Documents without their chrome, and LINE_LABELS of those kept.

    `host_lines` is what `find_host_lines` wrote. Reason: mostly_boilerplate (value: share of characters cut).
    """
    repeated = read_host_lines(host_lines) if host_lines is not None else frozenset()
    texts: list[str] = []
    counts: list[int] = []
    shares: list[float] = []
    verdicts: list[Verdict | None] = []
    for text, url in zip(documents["text"].to_pylist(), documents["url"].to_pylist(), strict=True):
        kept, removed, share = clean_lines(text or "", host_of(url), repeated)
        texts.append(kept)
        counts.append(removed)
        shares.append(share)
        over = share > settings.max_removed_share or not kept
        verdicts.append(("mostly_boilerplate", f"{share:.3f}") if over else None)
    at = documents.schema.get_field_index("text")
    decided = decide(documents.set_column(at, documents.schema.field(at), pa.array(texts, pa.string())), verdicts)
    stay = [verdict is None for verdict in verdicts]
    labels = pa.table([documents["id"], counts, pa.array(shares, pa.float32())], schema=LINE_LABELS)
    return Decided(decided.kept, decided.dropped, labels.filter(pa.array(stay, pa.bool_())))


def clean_lines(text: str, host: str = "", repeated: frozenset[int] = frozenset()) -> tuple[str, int, float]:
    """`text` without boilerplate, lines that stood before and lines of `repeated`; lines cut and their share of
    characters. Blank lines stay, one at a time.
    """
    kept: list[str] = []
    seen: set[str] = set()
    removed = removed_characters = characters = 0
    for raw in text.split("\n"):
        line = raw.strip()
        if not line:
            if kept and kept[-1]:
                kept.append("")
            continue
        characters += len(line)
        known = line in seen and len(line) >= _MIN_REPEATED_CHARACTERS
        if known or is_boilerplate(line) or (repeated and line_key(host, line) in repeated):
            removed += 1
            removed_characters += len(line)
            continue
        seen.add(line)
        kept.append(raw.rstrip())
    return "\n".join(kept).strip(), removed, removed_characters / max(characters, 1)
