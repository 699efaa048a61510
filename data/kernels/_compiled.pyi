"""What data/kernels/*.c hold. A text is a str, or a buffer of UTF-8; ValueError where that is none. `classes` is
data.character_tables.character_classes(), `forms` a data.character_tables.Forms.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from _typeshed import ReadableBuffer
from numpy.typing import NDArray

Array: TypeAlias = ReadableBuffer | NDArray[Any]
Forms: TypeAlias = tuple[Array, Array]
Text: TypeAlias = str | ReadableBuffer

QUALITY_COUNTS: tuple[str, ...]  # the names of what quality_counts counts, in its order

def normalise(text: Text, forms: Forms, /) -> str:
    """NFKC and lower case: every character in its form, or, where that of some depends on its neighbours, what unicodedata says."""

def fold(text: Text, forms: Forms, /) -> str | None:
    """`text` with every character in its form; None where the form of some depends on its neighbours. Of blanks beside each other
    one stays, and none at the ends; other white space is one where its form is.
    """

def scan_words(text: Text, classes: Array, /) -> tuple[bytes, bytes, bytes, bytes]:
    """The arrays of data.text.Words: starts and ends (int64), hashes (uint64), unspaced (bool)."""

def shingles(text: Text, forms: Forms, classes: Array, words: int, characters: int, /) -> tuple[int, bytes]:
    """Of a text, normalised, a 64-bit hash of its pieces between white space, equal for texts that differ in white space alone,
    and data.text.shingles, uint64.
    """

def quality_counts(
    texts: Sequence[Text], most: int, traits: Array, stop_hashes: Array, stop_numbers: Array, /
) -> bytes:
    """int64, shape (texts, counts), of the first `most` characters of each text; `characters` is their number in all of it.

    `traits`: what each character is (data.corpus.quality, uint16). `stop_hashes` (uint64) are
    the hashes of stop words in all their forms, `stop_numbers` (uint8) the number of each one's word: to 7 those of spaced
    text, from 8 those of unspaced text, 63 at most.
    """

def minhash(hashes: Array, a: Array, b: Array, /) -> bytes:
    """Minima of a[k] * x + b[k] mod 2^32 over the upper halves x of `hashes` (uint64, at least one), uint32, one for each k."""

def longest_texts(html: Array, scanned: int, more: int, wanted: int, piece: int, /) -> list[bytes]:
    """The longest stretches of text between two tags of `html` that are no script or style, in their order: until they have
    more than `wanted` bytes, of each `piece` bytes at most. The first `scanned` bytes are looked through, and the first
    `more` where those have less than four times `wanted` of text.
    """

def symbols(text: Text, forms: Forms, unspaced: bool, /) -> bytes:
    """data.corpus.learned.char_model.characters, uint64; by data.character_tables.spaced_forms."""

def char_model_bits(
    text: Text, most: int, forms: Forms, unspaced: bool, unseen: float, tables: Sequence[NDArray[np.void]], /
) -> tuple[float, int]:
    """-log2 of the probability of the first `most` characters of a text, and how many characters the model read of it.

    `tables` holds the n-grams of each size, hash tables of data.corpus.learned.char_model; `unseen` is the probability of a
    character that is in none.
    """

def build_terms(terms: Sequence[str], /) -> tuple[bytes, bytes]:
    """What find_terms looks up: by which characters terms begin, and the steps of their trie. Terms are not empty; of equal ones the last counts."""

def find_terms(text: Text, firsts: Array, steps: Array, whole: bool, /) -> list[tuple[int, int, int]]:
    """Start, end and number of each term in `text`, by their starts. `whole`: one that begins or ends with a letter of a
    script with spaces counts there only at the border of a word.
    """

def find_folded_terms(text: Text, forms: Forms, firsts: Array, steps: Array, /) -> list[tuple[int, int, int]] | None:
    """find_terms, whole, in what `fold` makes of `text`; None where that makes nothing of it."""

def number_places(text: Text, /) -> tuple[bool, bool, bool, bool, list[tuple[int, int]]]:
    """Whether there are full-width digits or @, whether there is an @, whether three dots stand between digits as close as in an IPv4 address,
    whether colons stand as in an IPv6 address, and the places of the first and last digit of each row of seven digits or
    more with at most three characters between neighbours.
    """

@overload
def cut_lines(
    text: str, words: tuple[Array, Array], beginnings: tuple[Array, Array], ask: Callable[[str, int], bool], chrome: int, ask_all: bool, /
) -> tuple[str, int, int, int]: ...
@overload
def cut_lines(
    text: memoryview, words: tuple[Array, Array], beginnings: tuple[Array, Array], ask: Callable[[str, int], bool], chrome: int, ask_all: bool, /
) -> tuple[memoryview, int, int, int]:
    """`text` without some of its lines and without white space around it, of blank lines one at a time; the lines that were cut, their
    characters when trimmed, and those of all lines.

    A later copy of a line of twelve characters or more is cut, and one with a mark of `chrome` (data.corpus.lines.Mark). Of
    others with a mark, and of those up to 200 characters that in small letters contain one of `words` or whose outline
    (data.corpus.beginnings) begins with one of `beginnings`, `ask(trimmed line, marks)` says whether they are cut; with `ask_all` of
    every line that would be kept. `words` and `beginnings` are what build_terms made.
    """

def fasttext_open(file: ReadableBuffer, /) -> object:
    """The fastText classifier in the bytes of its file (.bin or .ftz), which it goes on reading. Raises ValueError where it is none."""

def fasttext_labels(model: object, /) -> list[str]:
    """Its labels, as they stand in the file."""

def fasttext_predict(model: object, texts: Sequence[str], most: int, /) -> tuple[bytes, bytes]:
    """Of each text's first line the numbers of the `most` likeliest labels (int32, shape (texts, most)), likeliest first, and
    their probabilities (float32, likewise); -1 and 0 where there are fewer.
    """
