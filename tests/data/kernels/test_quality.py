from __future__ import annotations

import re
from collections import Counter

import numpy as np
from hypothesis import example, given

from data import kernels
from data.character_tables import LETTER, OTHER, SPACE, UNSPACED
from data.corpus.quality import (
    _BULLETS,
    _CHINESE_STOP_WORDS,
    _ENGLISH_STOP_WORDS,
    _PUNCTUATION,
    _TERMINAL,
    _TRADITIONAL,
    _stop_words,
    _traits,
    measures,
)
from tests.data.kernels.texts import SPACES, class_of, texts, words_of

_BLANKS = re.escape(SPACES.replace("\n", ""))
_INNER_END = re.compile(rf"[.!?…][\"'”’)\]]*+[{_BLANKS}]++(?=[^{_BLANKS}\n])|[。！？；][”’」』）]*+[{_BLANKS}]*+(?=[^{_BLANKS}\n])")
_MARKUP = re.compile(r"[{}]|:(?=//)|(?<=www)\.|<(?=/?[A-Za-z])|&(?=(?:nbsp|amp|lt|gt|quot);)")
_DIGITS = "0123456789０１２３４５６７８９"


def counts_of(text: str, distinct_words: int = 1000) -> dict[str, int]:
    """What quality.c counts, by strings and regular expressions."""
    kinds = list(map(class_of, text))
    places = words_of(text)
    words = [text[start:end] for start, end in places]
    unspaced_words = sum(class_of(word[0]) == UNSPACED for word in words)
    unspaced = unspaced_words * 2 > len(words)
    letters = [c for c, kind in zip(text, kinds, strict=True) if kind in (LETTER, UNSPACED)]
    others = [c for c, kind in zip(text, kinds, strict=True) if kind == OTHER]
    tokens = [token for token in re.split(f"[{re.escape(SPACES)}|]", text) if token]
    lines, paragraphs = _lines_and_paragraphs(text)
    prose = [line for line in lines if line[0] != "|"]
    if unspaced:
        stop_words = sum(word in words or _TRADITIONAL.get(word) in words for word in _CHINESE_STOP_WORDS)
    else:
        stop_words = sum(any(form in words for form in (word, word.capitalize(), word.upper())) for word in _ENGLISH_STOP_WORDS)
    found = {
        "characters": len(text),
        "words": len(words),
        "unspaced_words": unspaced_words,
        "word_characters": sum(map(len, words)),
        "distinct_words": len(set(words[:distinct_words])),
        "stop_words": stop_words,
        "tokens": len(tokens),
        "token_characters": sum(map(len, tokens)),
        "tokens_with_letter": sum(any(class_of(c) in (LETTER, UNSPACED) and c not in _DIGITS for c in token) for token in tokens),
        "letters": len(letters),
        "alphabetic": sum(c not in _DIGITS for c in letters),
        "shown": sum(kind != SPACE for kind in kinds),
        "others": len(others),
        "punctuation": sum(c in _PUNCTUATION for c in others),
        "digits": sum(c in _DIGITS for c in text),
        "capitals": sum("A" <= c <= "Z" for c in text),
        "unreadable": 2 * len(re.findall("[\xc2-\xf4](?=[\x80-\xbf\u2010-\u2122\u20ac])", text)) + sum(c == "\ufffd" or "\ue000" <= c <= "\uf8ff" for c in text),
        "hashes": text.count("#") + text.count("＃"),
        "ellipses": text.count("…") + sum(len(dots) // 3 for dots in re.findall(r"\.+", text)),
        "curly_brackets": text.count("{"),
        "lorem_ipsums": len(re.findall("lorem ipsum", text, re.IGNORECASE | re.ASCII)),
        "markup": len(_MARKUP.findall(text)),
        "newlines": text.count("\n"),
        "lines": len(lines),
        "prose_lines": len(prose),
        "bullet_lines": sum(line[0] in _BULLETS for line in lines),
        "ellipsis_lines": sum(line.endswith(("...", "。。。", "…")) for line in lines),
        "punctuated_lines": sum(line[-1] in _TERMINAL for line in prose),
        "short_lines": sum(len(line) <= (15 if unspaced else 30) and not (unspaced and len(line) > 4 and line[-1] in "，。；！？…") for line in prose),
        "sentences": len(lines) + len(_INNER_END.findall(text)),
    }
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        later = [part for at, part in enumerate(parts) if part in parts[:at]]
        found |= {f"{name}s": len(parts), f"{name}_characters": sum(map(len, parts))}
        found |= {f"repeated_{name}s": len(later), f"repeated_{name}_characters": sum(map(len, later))}
    for size in range(2, 11):
        grams = [tuple(words[at : at + (2 if unspaced else 1) * size]) for at in range(len(words) - (2 if unspaced else 1) * size + 1)]
        found[f"top_{size}gram_characters" if size < 5 else f"duplicate_{size}gram_characters"] = (_of_commonest if size < 5 else _passed_over)(grams)
    return found


def _lines_and_paragraphs(text: str) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    paragraphs: list[str] = []
    for block in re.split(rf"\n(?:[{_BLANKS}]*\n)+", text):
        lines += [line.strip(SPACES) for line in block.split("\n") if line.strip(SPACES)]
        paragraphs += [block.strip(SPACES)] if block.strip(SPACES) else []
    return lines, paragraphs


def _characters(gram: tuple[str, ...]) -> int:
    return sum(map(len, gram))


def _of_commonest(grams: list[tuple[str, ...]]) -> int:
    copies = Counter(grams)
    return max(((count, count * _characters(gram)) for gram, count in copies.items() if count > 1), default=(0, 0))[1]


def _passed_over(grams: list[tuple[str, ...]]) -> int:
    """datatrove's find_all_duplicate."""
    seen: set[tuple[str, ...]] = set()
    at = characters = 0
    while at < len(grams):
        if grams[at] in seen:
            characters += _characters(grams[at])
            at += len(grams[at])
        else:
            seen.add(grams[at])
            at += 1
    return characters


def _counted(given: list[str], most: int = 1 << 20) -> list[dict[str, int]]:
    counted = kernels.quality_counts(given, most, _traits(), *_stop_words())
    rows = np.frombuffer(counted, np.int64).reshape(len(given), -1).tolist()
    return [dict(zip(kernels.QUALITY_COUNTS, row, strict=True)) for row in rows]


@example("天气很好。\n天气很。\n很好的天，\n天气很好的：\n天气")
@given(texts)
def test_counts(text: str) -> None:
    (found,) = _counted([text])
    assert found == counts_of(text)


@given(texts, texts)
def test_memory_that_is_used_again_holds_nothing_of_the_text_before(first: str, second: str) -> None:
    assert _counted([first * 3, second, "", first], 100) == [counts_of(text[:100]) | {"characters": len(text)} for text in (first * 3, second, "", first)]


def test_of_a_long_text_the_beginning_is_measured() -> None:
    (found,) = _counted(["word " * 400_000], 1 << 20)
    assert found["words"] == 209_716  # the last of one letter
    assert measures(["x" * 3_000_000])["characters"].tolist() == [3_000_000]


def test_more_words_than_are_compared() -> None:
    text = " ".join(f"w{n}" for n in range(1500))
    assert _counted([text])[0] == counts_of(text)
