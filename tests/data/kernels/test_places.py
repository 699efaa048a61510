"""Terms, numbers, lines and pieces of markup: where they stand in a text."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from data import kernels
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
    wide, dots, colons, runs = kernels.number_places(text)
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


def _marks(line: str, before: list[str]) -> Mark:
    """What lines.c sees, by regular expressions."""
    repeated = Mark.REPEATED if len(line) >= 12 and line in before else Mark(0)
    if re.fullmatch(r"[\W\d_]*", line):
        return (repeated | Mark.LETTERLESS) if line else repeated
    if len(line) > 200:
        return repeated | (Mark.ENDLESS if re.search("[!-~]{1001}", line) else Mark(0))
    letters, capitals = sum(map(str.isalpha, line)), sum(map(str.isupper, line))
    if letters > 15 and capitals > 0.6 * letters and len(line.split()) > 3:
        repeated |= Mark.SHOUTED
    separators = len(re.findall(r"[|»›·•／丨]|(?<=\s)[>/–—-](?=\s)", line))
    if separators >= 3 and line[0] != "|" and not re.search(r"[.!?。！？…][\"'”’」』）)]*\Z", line):
        repeated |= Mark.SEPARATED
    return repeated


@given(texts, st.sampled_from(["", "x", "HELLO AGAIN TO ALL OF YOU", "one | two > three • four", "z" * 1001, "天" * 201]), texts)
def test_lines(first: str, middle: str, last: str) -> None:
    text = f"{first}\n{middle}\n{last}\n {middle}"
    at, before = 0, []
    expected = []
    for raw in text.split("\n"):
        line = raw.strip()
        start = at + (len(raw) - len(raw.lstrip()) if line else 0)
        found = (at, start, start + len(line), int(_marks(line, before)))
        expected.append(found if line else None)
        before.append(line)
        at += len(raw) + 1
    lines = kernels.mark_lines(text)
    assert [line if line[1] < line[2] else None for line in lines] == expected
    assert "\n".join(text[begin:end] for begin, _, end, _ in lines).split() == text.split()


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
