"""Measures of a document's text: Gopher quality and repetition, C4, FineWeb, and their Chinese counterparts.

Measures only; SelectionSettings.rules says what is dropped. Texts are scanned once, many at a time; every measure is
arithmetic on that scan. Sources: Rae et al. 2021 (Gopher, A1.1 and A1.2), Raffel et al. 2020 (C4), Penedo et al. 2024
(FineWeb).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.repetition import DUPLICATE_SIZES, TOP_SIZES, later_copies, ngram_shares
from data.document import label_schema
from data.settings import QualitySettings
from data.text import LETTER, SPACE, Hashes, scan_words
from data.text_batch import Mask, Positions, TextBatch, batches, keys_within

Measures = dict[str, NDArray[Any]]  # by name, shape (texts,) each
_ENGLISH_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher
# The commonest function words of Chinese (Da 2004, modern texts): real prose cannot do without them.
_CHINESE_STOP_WORDS = "的了在是和有不我也这他就人都说到你要而与为以其中"
_BULLETS = "•‣▶◀◦■□▪▫●○-–*·"
_TERMINAL = ".!?。！？…\"'”’」』）)：:;；～~"
_PUNCTUATION = ".,;:!?'\"()-–—’‘“”…。，、；：！？（）《》「」『』·％%$€£¥&/"
_ENTITIES = ("&nbsp;", "&amp;", "&lt;", "&gt;", "&quot;")
_DISTINCT_WORDS = 1000  # the share of distinct words falls with length, so the length is bounded

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
    found = measures([text or "" for text in documents["text"].to_pylist()], settings.max_characters)
    columns = [pa.array(found[name]).cast(QUALITY_LABELS.field(name).type) for name in QUALITY_LABELS.names[1:]]
    return pa.table([documents["id"].combine_chunks(), *columns], schema=QUALITY_LABELS)


def measure(text: str, max_characters: int = 1 << 20) -> dict[str, float]:
    """All measures of one text by name."""
    return {name: column[0].item() for name, column in measures([text], max_characters).items()}


def measures(texts: Sequence[str], max_characters: int = 1 << 20) -> Measures:
    """All measures of `texts` by name. Lengths in characters; shares from 0 to 1; an empty text measures 0."""
    parts = [_measures(list(part)) for part in batches([text[:max_characters] for text in texts])]
    names = QUALITY_LABELS.names[1:]
    found = {name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0) for name in names}
    found["characters"] = np.fromiter(map(len, texts), np.int64, len(texts))
    return found


def _measures(texts: list[str]) -> Measures:
    batch = TextBatch(texts)
    words, hashes = batch.words, batch.word_hashes
    word_count = np.bincount(words.text, minlength=len(batch))
    count = np.maximum(word_count, 1)
    unspaced_words = batch.count(batch.unspaced)
    unspaced = unspaced_words * 2 > word_count  # most words are single characters of an unspaced script
    found: Measures = {
        "characters": batch.ends - batch.starts,
        "words": word_count,
        "unspaced_words_share": unspaced_words / count,
        "hashes_per_word": _count(batch, "#＃") / count,
        "ellipses_per_word": (_count(batch, "…") + _three_dots(batch)) / count,
        "curly_brackets": _count(batch, "{"),
        "lorem_ipsums": np.array([_lorem_ipsums(text) for text in texts], np.int64),
        "markup_per_word": _markup(batch, texts) / count,
        "newlines_per_word": batch.count_at(batch.newlines) / count,
        "distinct_words_share": _distinct_shares(words.text, hashes, word_count),
        "stop_words": _stop_words(texts, batch, unspaced),
    }
    found |= _token_measures(batch, unspaced, word_count)
    found |= _character_measures(batch, count)
    found |= _line_measures(batch, unspaced)
    found |= ngram_shares(words.text, hashes, words.lengths, np.where(unspaced, 2, 1))
    found["sentences"] = _sentences(batch)
    found["words_per_sentence"] = word_count / np.maximum(found["sentences"], 1)
    return found


def _count(batch: TextBatch, characters: str) -> Positions:
    """How many of `characters`, none a letter, stand in each text."""
    return batch.count_at(batch.others[_one_of(characters, batch.other_codes)])


def _three_dots(batch: TextBatch) -> Positions:
    """Runs of full stops by threes."""
    dots = batch.find_runs(batch.find("."))
    return np.bincount(dots.text, dots.lengths // 3, minlength=len(batch)).astype(np.int64)


def _lorem_ipsums(text: str) -> int:
    likely = "ipsum" in text or "Ipsum" in text or "IPSUM" in text
    return text.lower().count("lorem ipsum") if likely else 0


def _markup(batch: TextBatch, texts: Sequence[str]) -> Positions:
    """Addresses, tags, braces and entities that an extractor left."""
    at, colons, dots, tags = batch.at, batch.find(":"), batch.find("."), batch.find("<")
    colons = colons[(at(colons + 1) == ord("/")) & (at(colons + 2) == ord("/"))]
    dots = dots[(at(dots - 1) == ord("w")) & (at(dots - 2) == ord("w")) & (at(dots - 3) == ord("w"))]
    after = at(tags + 1)
    letter = np.where(after == ord("/"), at(tags + 2), after) | 32
    tags = tags[(letter >= ord("a")) & (letter <= ord("z"))]
    found = _count(batch, "{}") + batch.count_at(colons) + batch.count_at(dots) + batch.count_at(tags)
    for number in np.flatnonzero(_count(batch, "&")).tolist():
        found[number] += sum(map(texts[number].count, _ENTITIES))
    return found


def _distinct_shares(text: Positions, hashes: Hashes, counts: Positions) -> NDArray[np.float64]:
    """Share of distinct words among each text's first 1,000."""
    number = np.arange(len(text)) - (np.cumsum(counts) - counts)[text]
    first = number < _DISTINCT_WORDS
    keys = np.sort(keys_within(text[first], hashes[first]))
    new = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    distinct = np.bincount((new >> np.uint64(48)).astype(np.int64), minlength=len(counts))
    return distinct / np.clip(counts, 1, _DISTINCT_WORDS)


def _stop_words(texts: Sequence[str], batch: TextBatch, unspaced: Mask) -> Positions:
    """How many different function words there are: of Gopher's eight, or of two dozen Chinese ones."""
    known, which = _stop_word_hashes()
    short = np.flatnonzero(batch.words.lengths <= max(map(len, _ENGLISH_STOP_WORDS)))
    hashes = batch.word_hashes[short]
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    hit = known[place] == hashes
    pairs = np.unique(batch.words.text[short[hit]] * len(_ENGLISH_STOP_WORDS) + which[place[hit]])
    found = np.bincount(pairs // len(_ENGLISH_STOP_WORDS), minlength=len(texts))
    for number in np.flatnonzero(unspaced).tolist():
        found[number] = sum(word in texts[number] for word in _CHINESE_STOP_WORDS)
    return found


@cache
def _stop_word_hashes() -> tuple[Hashes, Positions]:
    """Sorted hashes of Gopher's stop words (lower case, capitalised, capitals), and the number of each one's word."""
    forms = {scan_words(form).hashes[0]: number for number, word in enumerate(_ENGLISH_STOP_WORDS) for form in (word, word.capitalize(), word.upper())}
    hashes = np.array(sorted(forms), dtype=np.uint64)
    return hashes, np.array([forms[value] for value in hashes], dtype=np.int64)


def _token_measures(batch: TextBatch, unspaced: Mask, word_count: Positions) -> Measures:
    """Of whitespace-separated tokens, as Gopher counts words; in unspaced text of characters."""
    letters = (batch.classes == LETTER) | batch.unspaced
    alphabetic = letters & ~_is_digit(batch.codes)
    bars = batch.find("|")  # of a table: no words
    tokens = batch.pieces
    if len(bars):
        words = batch.shown.copy()
        words[bars] = False
        tokens = batch.runs(words)
    letters_before = np.zeros(len(alphabetic) + 1, np.int32)
    np.cumsum(alphabetic, out=letters_before[1:])
    has_letter = letters_before[tokens.ends] > letters_before[tokens.starts]
    count = np.maximum(np.bincount(tokens.text, minlength=len(batch)), 1)
    mean = np.bincount(tokens.text, tokens.lengths, minlength=len(batch)) / count
    share = np.bincount(tokens.text, has_letter, minlength=len(batch)) / count
    if unspaced.any():
        mean = np.where(unspaced, batch.count(letters) / np.maximum(word_count, 1), mean)
        share = np.where(unspaced, batch.count(alphabetic) / np.maximum(batch.count(batch.shown), 1), share)
    return {"word_characters_mean": mean, "alphabetic_words_share": share}


def _is_digit(codes: NDArray[np.uint32]) -> Mask:
    return (codes - 48 <= 9) | (codes - 0xFF10 <= 9)  # unsigned: what is below wraps around


def _one_of(characters: str, codes: NDArray[np.uint32]) -> Mask:
    """Whether each code point is one of `characters`, all of the Basic Multilingual Plane."""
    return _table(characters)[np.minimum(codes, 0xFFFF)]


@cache
def _table(characters: str) -> Mask:
    table = np.zeros(1 << 16, dtype=np.bool_)
    table[[ord(character) for character in characters]] = True
    return table


def _character_measures(batch: TextBatch, count: Positions) -> Measures:
    codes = batch.codes
    marks = _count(batch, _PUNCTUATION)
    shown = np.maximum(batch.count(batch.shown), 1)
    # U+FFFD, private characters, and what UTF-8 read as windows-1252 is full of: Ã, Â, â followed by symbols
    unknown = (batch.other_codes == 0xFFFD) | (batch.other_codes - 0xE000 <= 0xF8FF - 0xE000)
    broken = batch.count_at(batch.others[unknown]) + _mojibake(batch)
    return {
        "symbols_share": (batch.count_at(batch.others) - marks) / shown,
        "digits_share": batch.count(_is_digit(codes)) / shown,
        "capitals_share": batch.count(codes - 65 <= 25) / shown,
        "unreadable_characters_share": np.minimum(broken / shown, 1.0),
        "punctuation_per_word": marks / count,
    }


def _mojibake(batch: TextBatch) -> Positions:
    """Characters of pairs that UTF-8 leaves when read as Latin-1 or windows-1252."""
    lead = np.flatnonzero(batch.codes - 0xC2 <= 0xF4 - 0xC2)
    after = batch.at(lead + 1)
    follow = (after - 0x80 <= 0x3F) | (after - 0x2010 <= 0x2122 - 0x2010) | (after == 0x20AC)
    return 2 * batch.count_at(lead[follow])


def _line_measures(batch: TextBatch, unspaced: Mask) -> Measures:
    lines, paragraphs = batch.lines, batch.paragraphs
    first, last = batch.codes[lines.starts], batch.codes[lines.ends - 1]
    dots = (last == ord(".")) | (last == ord("。"))
    dots &= (batch.at(lines.ends - 2) == last) & (batch.at(lines.ends - 3) == last) & (lines.lengths >= 3)
    prose = first != ord("|")  # a table's rows end in no full stop
    short = np.where(unspaced, 15, 30)[lines.text]  # characters; FineWeb's 30, of which Chinese needs about half

    def share(mask: Mask, among: Mask | None = None) -> NDArray[np.float64]:
        whole = lines.text if among is None else lines.text[among]
        part = lines.text[mask if among is None else mask & among]
        return np.bincount(part, minlength=len(batch)) / np.maximum(np.bincount(whole, minlength=len(batch)), 1)

    lines_share, lines_characters = later_copies(lines, batch.hash(lines), len(batch))
    paragraphs_share, paragraphs_characters = later_copies(paragraphs, batch.hash(paragraphs), len(batch))
    return {
        "bullet_lines_share": share(_one_of(_BULLETS, first)),
        "ellipsis_lines_share": share(dots | (last == ord("…"))),
        "punctuated_lines_share": share(_one_of(_TERMINAL, last), prose),
        "short_lines_share": share(lines.lengths <= short, prose),
        "duplicate_lines_share": lines_share,
        "duplicate_lines_characters_share": lines_characters,
        "duplicate_paragraphs_share": paragraphs_share,
        "duplicate_paragraphs_characters_share": paragraphs_characters,
    }


def _sentences(batch: TextBatch) -> Positions:
    """As data.text.count_sentences counts them: lines, and sentence ends within a line that has more text after."""
    spaced = _ends_within_lines(batch, ".!?…", "\"'”’)]", needs_space=True)
    unspaced = _ends_within_lines(batch, "。！？；", "”’」』）", needs_space=False)
    lines = np.bincount(batch.lines.text, minlength=len(batch))
    return lines + batch.count_at(spaced) + batch.count_at(unspaced)


def _ends_within_lines(batch: TextBatch, marks: str, closers: str, needs_space: bool) -> Positions:
    """Where one of `marks` stands, then any closers, then white space (if needed), then text of the same line."""
    mark = batch.others[_one_of(marks, batch.other_codes)]
    closing = batch.find_runs(batch.others[_one_of(closers, batch.other_codes)])
    after = mark + 1
    if len(closing):
        run = np.maximum(np.searchsorted(closing.starts, after, side="right") - 1, 0)
        inside = (closing.starts[run] <= after) & (after < closing.ends[run])
        after = np.where(inside, closing.ends[run], after)
    space = batch.classes[after] == SPACE
    if needs_space:
        mark, after, space = mark[space], after[space], space[space]
    pieces = np.append(batch.pieces.starts, len(batch.codes))
    following = np.where(space, pieces[np.searchsorted(pieces, after)], after)
    line_end = batch.newlines[np.searchsorted(batch.newlines, after)]
    return mark[following < line_end]
