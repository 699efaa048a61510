"""Measures of a document's text: Gopher quality and repetition, C4, FineWeb, and their Chinese counterparts.

Measures only; SelectionSettings.rules says what is dropped. A text is scanned once; n-grams are counted on 64-bit
hashes. Sources: Rae et al. 2021 (Gopher, A1.1 and A1.2), Raffel et al. 2020 (C4), Penedo et al. 2024 (FineWeb); the
arithmetic of repetition follows huggingface/datatrove, gopher_repetition_filter.py, with two differences: a top n-gram
counts from its second copy on, and in unspaced text n words are 2n characters (a Chinese word has about two).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.document import label_schema
from data.settings import QualitySettings
from data.text import (
    LETTER,
    OTHER,
    SPACE,
    UNSPACED,
    Hashes,
    classify,
    code_points,
    count_sentences,
    hash_spans,
    ngram_hashes,
    scan_words,
    word_bounds,
)  # fmt: skip

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
_ENGLISH_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher
# The commonest function words of Chinese (Da 2004, modern texts): real prose cannot do without them.
_CHINESE_STOP_WORDS = "的了在是和有不我也这他就人都说到你要而与为以其中"
_BULLETS = ("•", "‣", "▶", "◀", "◦", "■", "□", "▪", "▫", "●", "○", "-", "–", "*", "·")
_TERMINAL = frozenset(".!?。！？…\"'”’」』）)：:;；～~")
_ELLIPSES = ("...", "…", "。。。")
_PARAGRAPH = re.compile(r"\n\s*\n")
_TAG = re.compile(r"</?[a-zA-Z]")
_MARKUP = ("://", "www.", "{", "}", "&nbsp;", "&amp;", "&lt;", "&gt;", "&quot;")

_COUNTS = ["characters", "words", "sentences", "stop_words", "curly_brackets", "lorem_ipsums"]
_SHARES = [
    "unspaced_words_share",
    "word_characters_mean",
    "hashes_per_word",
    "ellipses_per_word",
    "bullet_lines_share",
    "ellipsis_lines_share",
    "alphabetic_words_share",
    "duplicate_lines_share",
    "duplicate_lines_characters_share",
    "duplicate_paragraphs_share",
    "duplicate_paragraphs_characters_share",
    *(f"top_{size}gram_characters_share" for size in TOP_SIZES),
    *(f"duplicate_{size}gram_characters_share" for size in DUPLICATE_SIZES),
    "punctuated_lines_share",
    "short_lines_share",
    "newlines_per_word",
    "symbols_share",
    "digits_share",
    "capitals_share",
    "unreadable_characters_share",
    "markup_per_word",
    "distinct_words_share",
    "words_per_sentence",
    "punctuation_per_word",
]
QUALITY_LABELS = label_schema({name: pa.int64() for name in _COUNTS} | {name: pa.float32() for name in _SHARES})


def quality_labels(documents: pa.Table, settings: QualitySettings) -> pa.Table:
    """One row of QUALITY_LABELS per document. Of a text beyond `max_characters` its beginning is measured."""
    rows = [measure(text or "", settings.max_characters) for text in documents["text"].to_pylist()]
    columns = [pa.array([row[name] for row in rows], QUALITY_LABELS.field(name).type) for name in QUALITY_LABELS.names[1:]]
    return pa.table([documents["id"].combine_chunks(), *columns], schema=QUALITY_LABELS)


@dataclass(frozen=True)
class _Scan:
    """A text's words and whitespace-separated tokens."""

    codes: NDArray[np.uint32]
    classes: NDArray[np.uint8]
    starts: NDArray[np.int64]  # of words
    ends: NDArray[np.int64]
    hashes: Hashes
    unspaced: bool  # most words are single characters of an unspaced script


def measure(text: str, max_characters: int = 1 << 20) -> dict[str, float]:
    """All measures of one text by name. Lengths in characters; shares from 0 to 1; an empty text measures 0."""
    measured = text[:max_characters]
    codes = code_points(measured)
    classes = classify(codes)
    starts, ends = word_bounds(classes)
    unspaced_words = int((classes[starts] == UNSPACED).sum()) if len(starts) else 0
    hashes = hash_spans(codes, starts, ends)
    scan = _Scan(codes, classes, starts, ends, hashes, unspaced_words * 2 > len(starts))
    count = max(len(starts), 1)
    found: dict[str, float] = {
        "characters": len(text),
        "words": len(starts),
        "unspaced_words_share": unspaced_words / count,
        "hashes_per_word": (measured.count("#") + measured.count("＃")) / count,
        "curly_brackets": measured.count("{"),
        "lorem_ipsums": measured.lower().count("lorem ipsum"),
        "markup_per_word": (sum(map(measured.count, _MARKUP)) + len(_TAG.findall(measured))) / count,
        "newlines_per_word": measured.count("\n") / count,
        "distinct_words_share": _distinct_share(hashes),
        "stop_words": _stop_words(measured, scan),
    }
    ellipses = measured.count("...") + measured.count("…")
    found["ellipses_per_word"] = ellipses / count
    found |= _token_measures(scan)
    found |= _character_measures(scan, count)
    found |= _line_measures(measured, scan.unspaced)
    found |= repetition(hashes, ends - starts, 2 if scan.unspaced else 1)
    found["sentences"] = count_sentences(measured)
    found["words_per_sentence"] = len(starts) / max(found["sentences"], 1)
    return found


def _stop_words(text: str, scan: _Scan) -> int:
    """How many different function words there are: of Gopher's eight, or of two dozen Chinese ones."""
    if scan.unspaced:
        return sum(word in text for word in _CHINESE_STOP_WORDS)
    return int(np.isin(_stop_word_hashes(), scan.hashes).any(axis=1).sum())


@cache
def _stop_word_hashes() -> NDArray[np.uint64]:
    """Hashes of Gopher's stop words, shape (8, 3): lower case, capitalised, capitals."""
    forms = [[word, word.capitalize(), word.upper()] for word in _ENGLISH_STOP_WORDS]
    return np.array([[scan_words(form).hashes[0] for form in row] for row in forms], dtype=np.uint64)


def _distinct_share(hashes: Hashes) -> float:
    """Distinct words among the first 1,000: falls with length, so the length is bounded."""
    first = hashes[:1000]
    return len(np.unique(first)) / len(first) if len(first) else 0.0


def _token_measures(scan: _Scan) -> dict[str, float]:
    """Of whitespace-separated tokens, as Gopher counts words; unspaced characters are tokens of their own."""
    filled = np.zeros(len(scan.classes) + 2, dtype=np.bool_)
    filled[1:-1] = (scan.classes != SPACE) & (scan.codes != ord("|"))  # a table's bars are no words
    starts = np.flatnonzero(filled[1:-1] & ~filled[:-2])
    if not len(starts):
        return {"word_characters_mean": 0.0, "alphabetic_words_share": 0.0}
    ends = np.flatnonzero(filled[1:-1] & ~filled[2:]) + 1
    alphabetic = (scan.classes == LETTER) | (scan.classes == UNSPACED)
    alphabetic &= ~_is_digit(scan.codes)
    has_letter = np.maximum.reduceat(alphabetic, starts)
    if scan.unspaced:
        shown = scan.classes != SPACE
        return {
            "word_characters_mean": float((scan.ends - scan.starts).mean()),
            "alphabetic_words_share": float(alphabetic.sum() / max(int(shown.sum()), 1)),
        }
    return {"word_characters_mean": float((ends - starts).mean()), "alphabetic_words_share": float(has_letter.mean())}


def _is_digit(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    ascii_digit = (codes >= 48) & (codes <= 57)
    return ascii_digit | ((codes >= 0xFF10) & (codes <= 0xFF19))


_PUNCTUATION = np.array(sorted(ord(mark) for mark in ".,;:!?'\"()-–—’‘“”…。，、；：！？（）《》「」『』·％%$€£¥&/"), dtype=np.uint32)


def _character_measures(scan: _Scan, count: int) -> dict[str, float]:
    other = scan.codes[scan.classes == OTHER]
    punctuation = int(np.isin(other, _PUNCTUATION).sum())
    shown = max(int((scan.classes != SPACE).sum()), 1)
    capitals = int(((scan.codes >= 65) & (scan.codes <= 90)).sum())
    # U+FFFD, and Latin letters that UTF-8 read as windows-1252 is full of: Ã, Â, â followed by symbols
    broken = int((scan.codes == 0xFFFD).sum()) + _mojibake(scan.codes)
    private = int(((scan.codes >= 0xE000) & (scan.codes <= 0xF8FF)).sum())
    return {
        "symbols_share": (len(other) - punctuation) / shown,
        "digits_share": int(_is_digit(scan.codes).sum()) / shown,
        "capitals_share": capitals / shown,
        "unreadable_characters_share": (broken + private) / shown,
        "punctuation_per_word": punctuation / count,
    }


def _mojibake(codes: NDArray[np.uint32]) -> int:
    """Characters of pairs that UTF-8 leaves when read as Latin-1 or windows-1252."""
    if not len(codes):
        return 0
    lead = (codes[:-1] >= 0xC2) & (codes[:-1] <= 0xF4)
    after = codes[1:]
    follow = ((after >= 0x80) & (after <= 0xBF)) | ((after >= 0x2010) & (after <= 0x2122)) | (after == 0x20AC)
    return 2 * int((lead & follow).sum())


def _line_measures(text: str, unspaced: bool) -> dict[str, float]:
    lines = [line for line in (raw.strip() for raw in text.split("\n")) if line]
    paragraphs = [part for part in (raw.strip() for raw in _PARAGRAPH.split(text)) if part]
    count = max(len(lines), 1)
    prose = [line for line in lines if line[0] != "|"]  # a table's rows end in no full stop
    short = 15 if unspaced else 30  # characters; FineWeb's 30, of which Chinese needs about half
    lines_share, lines_characters = _duplicate_shares(lines)
    paragraphs_share, paragraphs_characters = _duplicate_shares(paragraphs)
    return {
        "bullet_lines_share": sum(line.startswith(_BULLETS) for line in lines) / count,
        "ellipsis_lines_share": sum(line.endswith(_ELLIPSES) for line in lines) / count,
        "punctuated_lines_share": sum(line[-1] in _TERMINAL for line in prose) / max(len(prose), 1),
        "short_lines_share": sum(len(line) <= short for line in prose) / max(len(prose), 1),
        "duplicate_lines_share": lines_share,
        "duplicate_lines_characters_share": lines_characters,
        "duplicate_paragraphs_share": paragraphs_share,
        "duplicate_paragraphs_characters_share": paragraphs_characters,
    }


def _duplicate_shares(parts: Sequence[str]) -> tuple[float, float]:
    """Share of `parts` that repeat an earlier one, and of their characters."""
    if len(set(parts)) == len(parts):
        return 0.0, 0.0
    seen: set[str] = set()
    repeated = characters = 0
    for part in parts:
        if part in seen:
            repeated += 1
            characters += len(part)
        seen.add(part)
    return repeated / len(parts), characters / sum(map(len, parts))


def repetition(hashes: Hashes, lengths: NDArray[np.int64], scale: int = 1) -> dict[str, float]:
    """Gopher's n-gram measures over words given by hash and length in characters; n-grams have `scale` * n words.

    top_Ngram: characters of the commonest n-gram's copies. duplicate_Ngram: characters of n-grams that stood before,
    scanned from the left and passed over whole. Both over the characters of all words.
    """
    total = max(int(lengths.sum()), 1)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    found: dict[str, float] = {}
    alive = True  # no n-gram repeats unless a shorter one does
    for size in (*TOP_SIZES, *DUPLICATE_SIZES):
        name = f"top_{size}gram_characters_share" if size in TOP_SIZES else f"duplicate_{size}gram_characters_share"
        found[name] = 0.0
        if not alive:
            continue
        width = size * scale
        grams = ngram_hashes(hashes, width)
        ordered = np.sort(grams)
        alive = bool((ordered[1:] == ordered[:-1]).any())
        if not alive:
            continue
        order = np.argsort(grams)
        ordered = grams[order]
        same = ordered[1:] == ordered[:-1]
        if size in TOP_SIZES:
            firsts = np.flatnonzero(np.concatenate([[True], ~same]))
            copies = np.diff(np.append(firsts, len(ordered)))
            at = order[firsts]
            characters = ends[at + width] - ends[at]
            top = copies == copies.max()
            found[name] = float((characters * copies)[top].max() / total)
        else:
            repeated = np.zeros(len(ordered), dtype=np.bool_)
            repeated[1:] = same
            repeated[:-1] |= same
            positions = np.sort(order[repeated])
            found[name] = _passed_over(positions, grams[positions], ends, width) / total
    return found


def _passed_over(positions: NDArray[np.int64], grams: Hashes, ends: NDArray[np.int64], width: int) -> int:
    """Characters of the n-grams that repeat an earlier one, left to right, none counted within another."""
    seen: set[int] = set()
    free = characters = 0
    for at, gram in zip(positions.tolist(), grams.tolist(), strict=True):
        if at < free:
            continue
        if gram in seen:
            characters += int(ends[at + width] - ends[at])
            free = at + width
        else:
            seen.add(gram)
    return characters
