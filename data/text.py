"""Unicode text as the data half sees it: cleaned, scanned once into words, split into sentences, hashed into shingles.

Words of spaced scripts are runs of letters, digits and combining marks (marks are kept: stripping them merges Japanese
and splits Hangul). Scripts without spaces (Han, kana, Thai, Lao, Khmer, Burmese) count each character as a word.
Hashes are keyed by nothing but the text: the same in every process and on every machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data import kernels
from data.character_tables import character_classes, normal_forms

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_SENTENCE_END = re.compile(r"([.!?…][\"'”’)\]]*+(?=\s)|[。！？；][”’」』）]*+)")
_INNER_SENTENCE_END = re.compile(  # one that is not the end of its line
    r"[.!?…][\"'”’)\]]*+[^\S\n]++(?=\S)|[。！？；][”’」』）]*+[^\S\n]*+(?=\S)"
)

Hashes = NDArray[np.uint64]
Text = str | bytes | memoryview  # a str, or UTF-8 as Arrow has it in memory (data.document.views)


def as_str(text: Text) -> str:
    return text if isinstance(text, str) else str(text, "utf-8")


def clean_text(text: str) -> str:
    """`text` as it may be stored: line ends are \\n; NUL, other control characters and lone surrogates are gone."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


def normalise(text: str) -> str:
    """`text` as copies are compared: NFKC, lower case. Digits and combining marks stay what they are."""
    return text.lower() if text.isascii() else kernels.normalise(text, normal_forms())


def code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@dataclass(frozen=True)
class Words:
    """Words of one text, in order: character offsets [start, end) and a 64-bit hash each; `unspaced` marks CJK.

    The hash is `mix` of the sum of (code + 1) * MULTIPLIER^place modulo 2^64: equal words have equal hashes wherever they stand.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    hashes: Hashes
    unspaced: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mostly_unspaced(self) -> bool:
        """Whether most words are single characters of an unspaced script."""
        return int(self.unspaced.sum()) * 2 > len(self)


def scan_words(text: Text) -> Words:
    """Every word of `text`: runs of letters, single unspaced characters."""
    starts, ends, hashes, unspaced = kernels.scan_words(text, character_classes())
    return Words(
        np.frombuffer(starts, np.int64), np.frombuffer(ends, np.int64), np.frombuffer(hashes, np.uint64), np.frombuffer(unspaced, np.bool_)
    )


MULTIPLIER = 0x9E3779B97F4A7C15  # of the hashes of sequences: odd, 2^64 over the golden ratio; data/kernels/text.h has it too


def mix(values: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele et al. 2014): every input bit reaches every output bit."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


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
    return np.frombuffer(kernels.shingles(text, normal_forms(), character_classes(), words, characters)[1], np.uint64)


def words(text: str) -> list[str]:
    """Words of `text` as strings; punctuation is left out."""
    found = scan_words(text)
    return [text[start:end] for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]


def count_words(text: Text) -> int:
    """`len(words(text))`, without making the strings."""
    return len(scan_words(text))


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
    found = scan_words(text)
    return float(found.unspaced.mean()) if len(found) else 0.0
