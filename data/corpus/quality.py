"""Measures of a document's text: Gopher quality and repetition, C4, FineWeb, and their Chinese counterparts.

Measures only; SelectionSettings.rules says what is dropped. data/kernels/quality.c counts in one go all that a text's measures
are made of; here is the arithmetic. Sources: Rae et al. 2021 (Gopher, A1.1 and A1.2), Raffel et al. 2020 (C4), Penedo et al. 2024
(FineWeb).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import kernels
from data.character_tables import LETTER, SPACE, UNSPACED, character_classes
from data.document import label_schema, views
from data.settings import QualitySettings
from data.text import Hashes, Text, scan_words

Measures = dict[str, NDArray[Any]]  # by name, shape (texts,) each
_ENGLISH_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher
# The commonest function words of Chinese (Da 2004, modern texts): real prose cannot do without them.
_CHINESE_STOP_WORDS = "的了在是和有不我也这他就人都说到你要而与为以其中"
_TRADITIONAL = {"这": "這", "说": "說", "与": "與", "为": "為"}  # those of them that are written otherwise
_BULLETS = "•‣▶◀◦■□▪▫●○-–*·"
_TERMINAL = ".!?。！？…\"'”’」』）)：:;；～~"
_PUNCTUATION = ".,;:!?'\"()-–—’‘“”…。，、；：！？（）《》「」『』·％%$€£¥&/"
# What data/kernels/quality.c asks of a character, by the bits that it knows; the two lowest are its class.
_DIGIT, _BAR, _TOKEN, _LETTERED = 4, 32, 8192, 16384
_TRAITS = {
    _DIGIT: "0123456789０１２３４５６７８９",
    8: string.ascii_uppercase,
    16: _PUNCTUATION,
    _BAR: "|",
    64: "\n.#＃…{}:<&pP!?。！？；\ufffd" + "".join(map(chr, [*range(0xC2, 0xF5), *range(0xE000, 0xF900)])),  # more is asked of these
    128: _BULLETS,
    256: _TERMINAL,
    512: ".!?…",  # end a sentence before white space
    1024: "。！？；",  # before anything
    2048: "\"'”’)]",  # may stand between
    4096: "”’」』）",
    32768: "，。；！？…",  # end a clause of unspaced text
}
_DISTINCT_WORDS = 1000  # of so many first words; quality.c has it too
# N-grams after huggingface/datatrove, gopher_repetition_filter.py, with two differences: a top n-gram counts from its second
# copy on, and in unspaced text n words are 2n characters (a Chinese word has about two).
TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)

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
    found = measures([text or b"" for text in views(documents, "text")], settings.max_characters)
    columns = [pa.array(found[name]).cast(QUALITY_LABELS.field(name).type) for name in QUALITY_LABELS.names[1:]]
    return pa.table([documents["id"].combine_chunks(), *columns], schema=QUALITY_LABELS)


def measure(text: str, max_characters: int = 1 << 20) -> dict[str, float]:
    """All measures of one text by name."""
    return {name: column[0].item() for name, column in measures([text], max_characters).items()}


def measures(texts: Sequence[Text], max_characters: int = 1 << 20) -> Measures:
    """All measures of `texts` by name. Lengths in characters; shares from 0 to 1; an empty text measures 0."""
    counted = kernels.quality_counts(texts, max_characters, _traits(), *_stop_words())
    columns = np.frombuffer(counted, np.int64).reshape(len(texts), len(kernels.QUALITY_COUNTS))
    of = dict(zip(kernels.QUALITY_COUNTS, columns.T, strict=True))
    words, shown, lines, paragraphs = (np.maximum(of[name], 1) for name in ("words", "shown", "lines", "paragraphs"))
    unspaced = of["unspaced_words"] * 2 > of["words"]  # most words are single characters of an unspaced script
    tokens, prose = np.maximum(of["tokens"], 1), np.maximum(of["prose_lines"], 1)
    found: Measures = {name: of[name] for name in _COUNTS}
    found |= {
        "unspaced_words_share": of["unspaced_words"] / words,
        "hashes_per_word": of["hashes"] / words,
        "ellipses_per_word": of["ellipses"] / words,
        "markup_per_word": of["markup"] / words,
        "newlines_per_word": of["newlines"] / words,
        "punctuation_per_word": of["punctuation"] / words,
        "distinct_words_share": of["distinct_words"] / np.clip(of["words"], 1, _DISTINCT_WORDS),
        "words_per_sentence": of["words"] / np.maximum(of["sentences"], 1),
        # Gopher's words are tokens between white space; in unspaced text they are characters
        "word_characters_mean": np.where(unspaced, of["letters"] / words, of["token_characters"] / tokens),
        "alphabetic_words_share": np.where(unspaced, of["alphabetic"] / shown, of["tokens_with_letter"] / tokens),
        "symbols_share": (of["others"] - of["punctuation"]) / shown,
        "digits_share": of["digits"] / shown,
        "capitals_share": of["capitals"] / shown,
        # U+FFFD, private characters, and what UTF-8 read as windows-1252 is full of: Ã, Â, â followed by symbols
        "unreadable_characters_share": np.minimum(of["unreadable"] / shown, 1.0),
        "bullet_lines_share": of["bullet_lines"] / lines,
        "ellipsis_lines_share": of["ellipsis_lines"] / lines,
        "punctuated_lines_share": of["punctuated_lines"] / prose,
        "short_lines_share": of["short_lines"] / prose,
        "duplicate_lines_share": of["repeated_lines"] / lines,
        "duplicate_lines_characters_share": of["repeated_line_characters"] / np.maximum(of["line_characters"], 1),
        "duplicate_paragraphs_share": of["repeated_paragraphs"] / paragraphs,
        "duplicate_paragraphs_characters_share": of["repeated_paragraph_characters"] / np.maximum(of["paragraph_characters"], 1),
    }
    for name in (*(f"top_{size}gram" for size in TOP_SIZES), *(f"duplicate_{size}gram" for size in DUPLICATE_SIZES)):
        found[f"{name}_characters_share"] = of[f"{name}_characters"] / np.maximum(of["word_characters"], 1)
    return found


@cache
def _traits() -> NDArray[np.uint16]:
    table = character_classes().astype(np.uint16)
    for bit, characters in _TRAITS.items():
        table[list(map(ord, characters))] |= bit
    kind = character_classes()
    table[(kind != SPACE) & (table & _BAR == 0)] |= _TOKEN
    table[((kind == LETTER) | (kind == UNSPACED)) & (table & _DIGIT == 0)] |= _LETTERED
    return table


@cache
def _stop_words() -> tuple[Hashes, NDArray[np.uint8]]:
    """Hashes of Gopher's stop words (lower case, capitalised, capitals) and of the Chinese ones in both scripts, and each one's number."""
    forms = [(form, number) for number, word in enumerate(_ENGLISH_STOP_WORDS) for form in (word, word.capitalize(), word.upper())]
    chinese = list(enumerate(_CHINESE_STOP_WORDS, len(_ENGLISH_STOP_WORDS)))
    forms += [(word, number) for number, word in chinese] + [(_TRADITIONAL[word], number) for number, word in chinese if word in _TRADITIONAL]
    return np.concatenate([scan_words(form).hashes for form, _ in forms]), np.array([number for _, number in forms], dtype=np.uint8)
