"""Unicode text as the data half sees it: cleaned, scanned once into words, split into sentences, hashed into shingles.

Words of spaced scripts are runs of letters, digits and combining marks (marks are kept: stripping them merges Japanese
and splits Hangul). Scripts without spaces (Han, kana, Thai, Lao, Khmer, Burmese) count each character as a word.
Hashes are keyed by nothing but the text: the same in every process and on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, UNSPACED, OTHER = 0, 1, 2, 3  # classes of a character, see `character_classes`
_TABLE_SIZE = 0x20001  # beyond it lie the Han extensions; all of them are read from the last entry
_UNSPACED_RANGES = [
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # 々〆〇
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # halfwidth kana
    (0x20000, 0x20000),
]
_BLOCK = 1 << 20  # characters scanned at once: bounds the memory of a 50 MB line

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_SENTENCE_END = re.compile(r"([.!?…][\"'”’)\]]*+(?=\s)|[。！？；][”’」』）]*+)")
_INNER_SENTENCE_END = re.compile(  # one that is not the end of its line
    r"[.!?…][\"'”’)\]]*+[^\S\n]++(?=\S)|[。！？；][”’」』）]*+[^\S\n]*+(?=\S)"
)

Hashes = NDArray[np.uint64]


def clean_text(text: str) -> str:
    """`text` as it may be stored: line ends are \\n; NUL, other control characters and lone surrogates are gone."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


def normalise(text: str) -> str:
    """`text` as copies are compared: NFKC, lower case. Digits and combining marks stay what they are."""
    if not text.isascii():
        # What NFKC makes of the two commonest characters it changes; most texts are in normal form then, which is seen fast.
        text = text.replace("\u00a0", " ").replace("…", "...")
        text = unicodedata.normalize("NFKC", text)
    return text.lower()


@cache
def character_classes() -> NDArray[np.uint8]:
    """Class of every code point below 0x20001 (SPACE, LETTER, UNSPACED, OTHER), shape (0x20001,)."""
    table = np.full(_TABLE_SIZE, OTHER, dtype=np.uint8)
    for code in range(_TABLE_SIZE - 1):
        category = unicodedata.category(chr(code))
        if category[0] in "LNM":
            table[code] = LETTER
        elif category[0] == "Z" or code in (9, 10, 11, 12, 13, 0x85):
            table[code] = SPACE
    for first, last in _UNSPACED_RANGES:
        span = table[first : last + 1]
        span[span == LETTER] = UNSPACED
    table[_TABLE_SIZE - 1] = UNSPACED
    return table


def code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def classify(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return character_classes()[np.minimum(codes, _TABLE_SIZE - 1)]


@dataclass(frozen=True)
class Words:
    """Words of one text, in order: character offsets [start, end) and a 64-bit hash each; `unspaced` marks CJK."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    hashes: Hashes
    unspaced: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)


def scan_words(text: str) -> Words:
    """Every word of `text` in a few passes over its code points (texts over a million characters in blocks)."""
    parts = [_scan_block(text[at : at + _BLOCK], at) for at in range(0, max(len(text), 1), _BLOCK)]
    if len(parts) == 1:
        return parts[0]
    return Words(
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.unspaced for part in parts]),
    )


def _scan_block(text: str, offset: int) -> Words:
    codes = code_points(text)
    classes = classify(codes)
    starts, ends = word_bounds(classes)
    unspaced = classes[starts] == UNSPACED if len(starts) else np.zeros(0, np.bool_)
    return Words(starts + offset, ends + offset, hash_spans(codes, starts, ends), unspaced)


def word_bounds(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end offsets of words: runs of LETTER, single UNSPACED characters."""
    letter = np.zeros(len(classes) + 2, dtype=np.bool_)
    letter[1:-1] = classes == LETTER
    single = classes == UNSPACED
    first = letter[1:-1] & ~letter[:-2]
    last = letter[1:-1] & ~letter[2:]
    if single.any():
        first |= single
        last |= single
    return np.flatnonzero(first), np.flatnonzero(last) + 1


MULTIPLIER = 0x9E3779B97F4A7C15  # of the hashes of sequences: odd, 2^64 over the golden ratio


def mix(values: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele et al. 2014): every input bit reaches every output bit."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


@cache
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """Powers of the hash multiplier and of its inverse modulo 2^64, shape (2^bits,) each."""
    tables = []
    for base in (MULTIPLIER, pow(MULTIPLIER, -1, 1 << 64)):
        powers = np.full(1 << bits, base, dtype=np.uint64)
        powers[0] = 1
        tables.append(np.multiply.accumulate(powers))
    return tables[0], tables[1]


def hash_spans(codes: NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """64-bit hash of each span of `codes`; equal spans have equal hashes wherever they stand.

    The polynomial sum of (code + 1) * m^k modulo 2^64, by prefix sums: one pass whatever the number of spans.
    """
    return hash_between(prefix_sums(codes), starts, ends) if len(starts) else np.zeros(0, dtype=np.uint64)


def prefix_sums(codes: NDArray[np.uint32] | Hashes) -> Hashes:
    """What `hash_between` needs of `codes`, shape (len(codes) + 1,)."""
    powers, _ = _powers(max(len(codes), 1 << 14).bit_length())
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    terms = sums[1:]
    np.add(codes, np.uint64(1), out=terms)
    terms *= powers[: len(codes)]
    np.cumsum(terms, out=terms)
    return sums


def hash_between(sums: Hashes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """Hash of each span, as `hash_spans` gives it, of the codes that `sums` were made from."""
    _, inverses = _powers(max(len(sums) - 1, 1 << 14).bit_length())
    return mix((sums[ends] - sums[starts]) * inverses[starts])


def ngram_hashes(hashes: Hashes, size: int) -> Hashes:
    """Hash of each run of `size` consecutive values, shape (len(hashes) - size + 1,), empty where there are fewer."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    multiplier = np.uint64(MULTIPLIER)
    total = hashes[:count].copy()
    for shift in range(1, size):
        total *= multiplier
        total += hashes[shift : shift + count]
    return mix(total)


def shingles(text: str, words: int = 5, characters: int = 5) -> Hashes:
    """Hashes of the shingles of `text` (normalised): runs of `words` words, or of `characters` where most words are
    unspaced characters. Never empty: a shorter text is one shingle of all its words, or of itself where it has none.
    """
    normal = normalise(text)
    found = scan_words(normal)
    size = characters if int(found.unspaced.sum()) * 2 > len(found) else words
    grams = ngram_hashes(found.hashes, size)
    if len(grams):
        return grams
    if len(found):
        return ngram_hashes(found.hashes, len(found)) + np.uint64(len(found))
    codes = code_points(normal.strip() or "\0")
    return hash_spans(codes, np.zeros(1, np.int64), np.array([len(codes)], np.int64))


def words(text: str) -> list[str]:
    """Words of `text` as strings; punctuation is left out."""
    found = scan_words(text)
    return [text[start:end] for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]


def count_words(text: str) -> int:
    """`len(words(text))`, without making the strings."""
    classes = classify(code_points(text))
    return len(word_bounds(classes)[0])


def sentences(text: str) -> list[str]:
    """Sentences of `text` by its own marks, English and Chinese; a line end also ends a sentence."""
    return [part for part in (line.strip() for line in _SENTENCE_END.sub(r"\1\n", text).split("\n")) if part]


def cut_at_sentence(text: str, limit: int) -> str:
    """The longest beginning of `text` of at most `limit` characters that ends with a sentence or a line.

    Where that would throw away more than half of it, it ends with a word; where there is none, at the limit.
    """
    if len(text) <= limit:
        return text
    head = text[: limit + 1]  # one more, so that the space after a full stop is seen
    ends = [match.end() for match in _SENTENCE_END.finditer(head) if match.end() <= limit]
    end = max(head.rfind("\n"), ends[-1] if ends else 0)
    if end < limit // 2:
        end = max(head.rfind(" "), end)
    return head[: end if end >= limit // 2 else limit].rstrip()


def count_sentences(text: str) -> int:
    """`len(sentences(text))`, several times faster."""
    lines = sum(not line.isspace() for line in text.split("\n") if line)
    return lines + len(_INNER_SENTENCE_END.findall(text))


def unspaced_share(text: str) -> float:
    """Share of the words of `text` that are single characters of an unspaced script; 0.0 for an empty text."""
    classes = classify(code_points(text))
    starts, _ = word_bounds(classes)
    return float((classes[starts] == UNSPACED).mean()) if len(starts) else 0.0
