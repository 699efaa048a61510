"""What Unicode says of every character, as tables that the kernels look up: its class and its normal form.

They are made of Python's own `unicodedata`, once a process, so they are never of another version than the texts around them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, UNSPACED, OTHER = 0, 1, 2, 3  # classes of a character, see `character_classes`
_SIZE = 0x20000  # beyond lie the Han extensions
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
]
_LONGER = 0x110000  # an entry of Forms.table from here on: the place in Forms.longer
_CONTEXT = 0xFFFFFFFF  # an entry of a character whose form depends on its neighbours
_JAMO = (0x1100, 0x11FF)  # become syllables beside each other
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # the only marks that stay what they are beside anything
_SPACES = [code for code in range(0x3001) if chr(code).isspace()]  # all of them
_SIGMA = 0x03A3  # its small letter has two shapes, one for the ends of words


@cache
def _categories() -> list[str]:
    return list(map(unicodedata.category, map(chr, range(_SIZE))))


@cache
def character_classes() -> NDArray[np.uint8]:
    """Class of every code point below 0x20000 (SPACE, LETTER, UNSPACED, OTHER), and last that of all beyond, shape (0x20001,)."""
    kinds = dict.fromkeys(set(_categories()), OTHER)
    kinds |= {category: LETTER if category[0] in "LNM" else SPACE for category in kinds if category[0] in "LNMZ"}
    table = np.fromiter(map(kinds.__getitem__, _categories()), np.uint8, _SIZE)
    table[[9, 10, 11, 12, 13, 0x85]] = SPACE
    for first, last in _UNSPACED_RANGES:
        span = table[first : last + 1]
        span[span == LETTER] = UNSPACED
    return np.append(table, np.uint8(UNSPACED))


class Forms(NamedTuple):
    """What each character below 0x20000 becomes, for data.kernels.

    `table` holds, for each, the character that it becomes, or 0x110000 plus the place in `longer` of how many it becomes
    and which, or 0xFFFFFFFF where that depends on what stands beside it.
    """

    table: NDArray[np.uint32]
    longer: NDArray[np.uint32]


@cache
def normal_forms() -> Forms:
    """NFKC and lower case."""
    return forms_of({})


@cache
def spaced_forms() -> Forms:
    """The same, and a blank for all white space."""
    forms = normal_forms()
    table = forms.table.copy()
    table[_SPACES] = ord(" ")
    return Forms(table, forms.longer)


def forms_of(changes: Mapping[int, str]) -> Forms:
    """NFKC and lower case, then `changes`, as str.translate takes them.

    The normal form of a text is that of its characters one after the other where none begins with a mark or a part of a
    syllable, which might join what stands before.
    """
    characters = "\n".join(map(chr, range(_SIZE)))  # a line end joins nothing
    normal = unicodedata.normalize("NFKC", characters)
    codes, starts, _ = _lines(normal)
    first = codes[starts]
    marks = np.fromiter((category[0] == "M" for category in _categories()), np.bool_, _SIZE)
    joins = marks[np.minimum(first, _SIZE - 1)] | (first - _JAMO[0] <= _JAMO[1] - _JAMO[0])
    joins[[*_VARIATION_SELECTORS]] = False
    joins |= first == _SIGMA
    codes, starts, lengths = _lines(normal.lower().translate(changes))
    table = codes[starts]
    longer: list[int] = []
    for code in np.flatnonzero(lengths != 1).tolist():
        table[code] = _LONGER + len(longer)
        longer += [lengths[code], *codes[starts[code] :][: lengths[code]].tolist()]
    table[joins] = _CONTEXT
    return Forms(table, np.array(longer, dtype=np.uint32))


def _lines(joined: str) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """Code points of what line ends joined, the tenth of which is a line end itself, and where each part begins and how long it is."""
    codes = np.frombuffer(f"{joined}\n".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.delete(np.flatnonzero(codes == 10), 10)
    starts = np.append(0, ends[:-1] + 1)
    return codes, starts, ends - starts
