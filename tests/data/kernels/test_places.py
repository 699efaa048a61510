"""Terms, numbers, lines and pieces of markup: where they stand in a text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data import kernels
from data.corpus.beginnings import END, outline
from data.corpus.lines import Mark
from tests.data.kernels.texts import pieces, texts


def _is_spaced(character: str) -> bool:
    return character.isalpha() and not "\u2e80" <= character <= "\u9fff"


@given(st.lists(pieces.filter(bool), max_size=12), texts, st.booleans())
@example(["a", "ab", "b", "ba", "aba"], "abab aba a b", True)
@example(["天", "天a", "a天"], "a天a a 天", True)
def test_terms(terms: list[str], text: str, whole: bool) -> None:
    text += "".join(terms)
    numbers = {term: number for number, term in enumerate(terms)}
    expected = []
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if (term := text[start:end]) not in numbers:
                continue
            inside = (start and _is_spaced(term[0]) and _is_spaced(text[start - 1])) or (end < len(text) and _is_spaced(term[-1]) and _is_spaced(text[end]))
            if not (whole and inside):
                expected.append((start, end, numbers[term]))
    assert kernels.find_terms(text, *kernels.build_terms(terms), whole) == expected


_numbers = st.lists(st.sampled_from([*"0123456789" * 2, *"..::-- ()abfg", "１", "＠", "٣", "::", ":1", "中", "\ud800"]), max_size=60).map("".join)


@given(texts | _numbers)
@example("1:2:3:4:5:6:7:8")
@example("1.2.3.4")
def test_number_places(text: str) -> None:
    wide, signs, dots, colons, runs = kernels.number_places(text)
    assert signs == ("@" in text)
    assert wide == any("０" <= character <= "９" or character == "＠" for character in text)
    between = [match.start() for match in re.finditer(r"(?<=\d)\.(?=\d)", text)]
    assert dots == any(third - first <= 8 for first, third in zip(between, between[2:], strict=False))
    assert colons == any("::" in run or run.count(":") >= 7 for run in re.findall("[0-9a-fA-F:]+", text))
    digits = [at for at, character in enumerate(text) if re.match(r"\d", character)]
    rows: list[list[int]] = []
    for at in digits:
        if rows and at - rows[-1][-1] <= 4:
            rows[-1].append(at)
        else:
            rows.append([at])
    assert runs == [(row[0], row[-1]) for row in rows if len(row) >= 7]


def _marks(line: str) -> Mark:
    """What lines.c sees, by regular expressions."""
    if re.fullmatch(r"[\W\d_]*", line):
        return Mark.LETTERLESS
    if len(line) > 200:
        return Mark.ENDLESS if re.search("[!-~]{1001}", line) else Mark(0)
    letters, capitals = sum(map(str.isalpha, line)), sum(map(str.isupper, line))
    found = Mark.SHOUTED if letters > 15 and capitals > 0.6 * letters and len(line.split()) > 3 else Mark(0)
    separators = len(re.findall(r"[|»›·•／丨]|(?<=\s)[>/–—-](?=\s)", line))
    if separators >= 3 and line[0] != "|" and not re.search(r"[.!?。！？…][\"'”’」』）)]*\Z", line):
        found |= Mark.SEPARATED
    return found


_WORDS = ["cat", "很好", "i̇s", "ς"]  # the last two are small letters of two, and of one at the end of a word alone


_BEGINNINGS = ["t", "he", "hello ", "0 ", "0\n", "天", "x y\n", "one | "]  # "\n": where the line ends


def _may_match(line: str) -> bool:
    """Whether patterns with these words and beginnings may match a line; of two letters it is not looked for."""
    begins = any((outline(line[:6].lower()) + END).startswith(beginning) for beginning in _BEGINNINGS)
    return begins or any(word in line.lower() for word in _WORDS) or "İ" in line or "Σ" in line


@given(texts, st.sampled_from(["", "x", "HELLO AGAIN TO ALL OF YOU", "one | two > three • four", "z" * 1001, "天" * 201]), texts, st.booleans())
@example("X\ty", "٣", "7up\nThe\nHe\nhllo", False)
def test_lines(first: str, middle: str, last: str, ask_all: bool) -> None:
    text = f"{first}\n{middle}\n{last}\n {middle}\n\n{first[:3]}y\n{last[:3]} and so on \n{first[:3]} İs\n{last[:3]}ΟΔΟΣ"
    asked: list[str] = []

    def ask(line: str, marks: int) -> bool:
        assert marks == _marks(line)
        asked.append(line)
        return len(line) % 2 == 1

    kept: list[str] = []
    before: list[str] = []
    removed: list[str] = []
    expected: list[str] = []
    for raw in text.split("\n"):
        line = raw.strip()
        if not line:
            if kept and kept[-1]:
                kept.append("")
            continue
        cut = (len(line) >= 12 and line in before) or bool(_marks(line) & (Mark.SHOUTED | Mark.ENDLESS))
        before.append(line)
        if not cut and (_marks(line) or ask_all or (len(line) <= 200 and _may_match(line))):
            expected.append(line)
            cut = len(line) % 2 == 1
        if cut:
            removed.append(line)
        else:
            kept.append(raw.rstrip())
    words, beginnings = kernels.build_terms(_WORDS), kernels.build_terms(_BEGINNINGS)
    found = kernels.cut_lines(text, words, beginnings, ask, int(Mark.SHOUTED | Mark.ENDLESS), ask_all)
    assert found == ("\n".join(kept).strip(), len(removed), sum(map(len, removed)), sum(map(len, before)))
    assert asked == expected


def test_an_error_while_asked() -> None:
    terms = kernels.build_terms([])
    with pytest.raises(ZeroDivisionError):
        kernels.cut_lines("x", terms, terms, lambda line, marks: 1 // 0 == 0, 0, True)
    with pytest.raises(ValueError, match="truth value"):
        kernels.cut_lines("x", terms, terms, lambda line, marks: np.zeros(2), 0, True)  # type: ignore[arg-type, return-value]


_markup = st.lists(
    st.sampled_from([b"<p>", b"</p>", b">", b"<", b"{", b"=", b";", b"\\", b"\xe5\xa4\xa9" * 8, b"a text of twenty-four bytes", b"twenty-three bytes here", b"a much longer text between two tags, which is prose", b" "]),
    max_size=60,
).map(b"".join)


@given(_markup, st.integers(0, 300), st.integers(1, 40))
def test_longest_texts(html: bytes, wanted: int, piece: int) -> None:
    for scanned, more in ((1 << 16, 1 << 18), (200, 600)):
        runs: list[bytes] = []
        for limit in (scanned, more):
            runs = re.findall(rb">([^<>{}=;\\]{24,}+)<", html[:limit])
            if sum(map(len, runs)) >= 4 * wanted:
                break
        chosen: list[int] = []
        size = 0
        for at in sorted(range(len(runs)), key=lambda at: -len(runs[at])):
            if size > wanted:
                break
            chosen.append(at)
            size += min(len(runs[at]), piece)
        assert kernels.longest_texts(html, scanned, more, wanted, piece) == [runs[at][:piece] for at in sorted(chosen)]


def test_every_decimal_is_a_digit_and_nothing_else_is() -> None:
    """Ranges without one are passed over."""
    for start in range(0, 0x110000, 0x4000):
        characters = [chr(code) for code in range(start, start + 0x4000)]
        runs = kernels.number_places("     ".join(character * 7 for character in characters))[4]
        assert len(runs) == sum(map(str.isdecimal, characters)), hex(start)


def test_every_capital_is_one_and_has_its_small_letter() -> None:
    """Scripts without capitals are passed over."""
    nothing = kernels.build_terms([])
    asked: dict[str, int] = {}

    def note(line: str, marks: int) -> bool:
        asked[line] = marks
        return False

    for character in (chr(code) for code in range(0x110000) if chr(code).isupper()):
        shouted = " ".join([character * 5] * 4)
        kernels.cut_lines(shouted, nothing, nothing, note, 0, True)
        assert asked[shouted] == _marks(shouted), hex(ord(character))
        if len(small := character.lower()) == 1:
            kernels.cut_lines(f"x{character}x y", kernels.build_terms([f"x{small}x"]), nothing, note, 0, False)
            assert f"x{character}x y" in asked, hex(ord(character))
