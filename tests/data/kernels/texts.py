"""Texts that the kernels are held to their oracles on: English, Chinese, signs, what lies at the edges of Unicode, and noise."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

from data.character_tables import _UNSPACED_RANGES, LETTER, OTHER, SPACE, UNSPACED

_WORDS = ["the", "and", "That", "OF", "cat", "mat", "naïve", "Straße", "ΟΔΟΣ", "İstanbul", "天气", "很好", "的", "了", "ひら", "한국", "हिन्दी", "ไทย", "lorem", "ipsum", "Lorem", "IPSUM", "a", "é", "é", "HELLO", "AGAIN", "NOW", "2024", "１２３", "٣٤", "²"]
_SIGNS = [*" \n\t\u00a0\u3000\x1c\x85.,!?…。！？；\"'”’」）)]|#＃{}<>/:;&%•*-–—·»@_+~=\0\ufeff\u200b\u00ad\ufffd\ue000",
    "\n\n", "  ", "...", "://", "www.", "&nbsp;", "&amp", "<b", "</p", "a@b.co", "12.5.3.4", "1.2.3.4", "::", "fe:1", "4111 1111 1111 1111", "Ã©", "â€™", "Â\x93", " | ", " > ",
]  # fmt: skip
_EDGES = ["\ud800", "\udfff", "😀", "❤\ufe0f", "\U00020001", "\U0001ffff", "\U0010ffff", "\U00030000", "ﬁ", "㌀", "ﷺ", "\u1100\u1161", "\u11a8", "ϲ", "Ϲ", "\U0001d6ba", "x" * 40, "字" * 40]

pieces = st.sampled_from(_WORDS + _SIGNS + _EDGES) | st.sampled_from([" ", "\n", "the", "天", "a", "."])
texts = st.lists(pieces, max_size=60).map("".join) | st.text(st.characters(), max_size=40)


def class_of(character: str) -> int:
    """What data.character_tables says of a character, by its category."""
    code, category = ord(character), unicodedata.category(character)
    if category[0] in "LNM" or code >= 0x20000:
        return UNSPACED if code >= 0x20000 or any(first <= code <= last for first, last in _UNSPACED_RANGES) else LETTER
    return SPACE if category[0] == "Z" or character in "\t\n\v\f\r\x85" else OTHER


SPACES = "".join(character for character in map(chr, range(0x3001)) if class_of(character) == SPACE)


def words_of(text: str) -> list[tuple[int, int]]:
    """Places of the words: runs of letters, single unspaced characters."""
    found: list[tuple[int, int]] = []
    for at, character in enumerate(text):
        kind = class_of(character)
        if kind == LETTER and found and found[-1][1] == at and class_of(text[at - 1]) == LETTER:
            found[-1] = (found[-1][0], at + 1)
        elif kind in (LETTER, UNSPACED):
            found.append((at, at + 1))
    return found
