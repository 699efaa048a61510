"""Personal data in text: found by pattern, checked by check digits where there are any, replaced by marks."""

from __future__ import annotations

import ipaddress
import re
import string
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator
from datetime import date
from typing import NamedTuple

from data import kernels
from data.text import Text, as_str

_GAP = r"[ \-\u00a0]"
_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9\-])")
_ID_NUMBER = re.compile(rf"(?<![0-9A-Za-z])[1-9]\d{{5}}{_GAP}?\d{{8}}{_GAP}?\d{{3}}[\dXx](?![0-9A-Za-z])")
_BANK_CARD = re.compile(rf"(?<![\d.]){_GAP}?[2-6](?:{_GAP}?\d){{12,18}}(?!{_GAP}?\d)")
_IPV4 = re.compile(r"(?<![\d.A-Za-z])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?![0-9A-Za-z:])")
_WITH_COUNTRY_CODE = re.compile(
    r"(?<![\w+])(?:\+|00(?=[1-9]))[1-9]\d{0,2}[ .\-/]?(?:\(0?\d{1,4}\)[ .\-/]?)?\d{1,4}(?:[ .\-/]?\d{2,4}){1,5}(?!\d)"
)
_PHONES = [
    # mobile, mainland China
    re.compile(rf"(?<![\d.])(?:(?:\+|00)?86{_GAP}?)?1[3-9]\d(?:{_GAP}?\d{{4}}){{2}}(?!\d)"),
    _WITH_COUNTRY_CODE,
    # North America
    re.compile(
        r"(?<![\d.\-/(])(?:1[ .\-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.\- ])[2-9]\d{2}[.\- ]\d{4}(?![\d\-/])"
    ),
    # fixed lines, with an extension or without, and service numbers, mainland China
    re.compile(
        r"(?<![\d.\-])(?:86[\- ])?(?:\(0\d{2,3}\)[\- ]?|0\d{2,3}[\- ])[2-8]\d{2,3}[\- ]?\d{4}(?:-\d{1,5})?(?:/[2-8]\d{6,7})*(?![\d\-])"
        r"|(?<![\d.\-])86[\- ](?:10|2\d|[3-9]\d{2})[\- ][2-8]\d{2,3}[\- ]?\d{4}(?![\d\-])"
        r"|(?<![\d.\-])[48]00[\- ]\d{3}[\- ]?\d{4}(?![\d\-])"
    ),
    # with a leading zero: Taiwan, Japan, Korea (nine digits and more, which no date has), Britain
    re.compile(
        r"(?<![\d.\-/])(?:0(?=(?:-?\d){8})\d{1,3}-\d{3,4}-\d{3,4}|09\d{2} \d{3} \d{3}|0[12]\d{1,3} \d{3,4} \d{4}|07\d{3} ?\d{3} ?\d{3})(?![\d\-/])"
    ),
]
# Where a number of seven or more digits may stand; all but addresses of the internet are looked for there alone.
_NUMBER = re.compile(r"[+(]{0,2}\d(?:[ .()/\-\u00a0]{0,3}\d){6,}[Xx]?")
_MAX_NAME = 64  # characters of an e-mail's name
_NAME_SIGNS = "._%+-"  # a name does not begin with these
_NAME_CHARACTERS = string.ascii_letters + string.digits + _NAME_SIGNS
# Full-width digits, letters and signs are read as their ASCII forms, one for one, so that places stay what they are.
_HALF_WIDTH = {0xFEE0 + code: code for code in map(ord, string.digits + string.ascii_letters + "@.-+()_%")}
# Around numbers whose digits are ASCII, Chinese text has these signs: （010）62345678, 010—62345678.
_NUMBER_SIGNS = [("（", "("), ("）", ")"), ("－", "-"), ("–", "-"), ("—", "-"), ("＋", "+")]
# What stands before four numbers with dots that are no address.
_NOT_AN_ADDRESS = re.compile(r"(?:\b(?:version|ver\.?|v\.|release|build|firmware|section|chapter)|版本号?|固件)[ :：]*$", re.IGNORECASE)
# What stands before a sum of money or pages of a book.
_OTHER_NUMBER = re.compile(r"(?:[￥¥$€£]|\b(?:pages?|pp\.?)|页码?)[ :：]?$", re.IGNORECASE)
# No domain ends so, but files do (image@2x.png); and git@HOST:PATH is where code lies, the same for all who fetch it.
_FILE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp", ".avif", ".ico", ".css", ".js")
_SHARED_NAMES = ("git",)
_MAX_WORD = 16  # characters of it
_ASSIGNED_IPV6 = ipaddress.ip_network("2000::/3")  # of which addresses are given to anybody (RFC 4291, 2.4)
# Lengths of card numbers by their first digits (ISO/IEC 7812-1 and the networks' own rules): a product's bar code has thirteen digits.
_CARD_LENGTHS = [("4", (13, 16, 19)), ("34", (15,)), ("37", (15,)), ("30", (14,)), ("36", (14,)), ("38", (14,)), ("39", (14,)), ("62", range(16, 20))]
_OTHER_CARD_LENGTHS = (16, 18, 19)
_MIN_PHONE_DIGITS, _MAX_PHONE_DIGITS = 7, 15  # E.164 allows 15
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"


class Found(NamedTuple):
    """A span of text, what it is, and the mark that replaces it."""

    start: int
    end: int
    kind: str


MARKS = {
    "emails": "<EMAIL>",
    "id_numbers": "<ID_NUMBER>",
    "bank_cards": "<BANK_CARD>",
    "ip_addresses": "<IP_ADDRESS>",
    "phones": "<PHONE>",
}


def is_chinese_id(number: str) -> bool:
    """Check character and birth date of an identity number (GB 11643-1999: ISO 7064, MOD 11-2)."""
    number = "".join(filter(str.isalnum, number))
    if _ID_CHECKS[sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False)) % 11] != number[17].upper():
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1900 <= born.year <= 2100


def is_bank_card(number: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812) over the digits of `number`, of which there are as many as its kind of card has."""
    digits = [int(character) for character in number if character.isdigit()]
    first = "".join(map(str, digits[:2]))
    lengths = next((lengths for start, lengths in _CARD_LENGTHS if first.startswith(start)), _OTHER_CARD_LENGTHS)
    if len(digits) not in lengths or len(set(digits)) < 2:
        return False
    doubled = [value * 2 - 9 if value > 4 else value * 2 for value in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_public_ip(text: str) -> bool:
    """An address that belongs to somebody: not private, local, reserved or for documentation."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and (address.version == 4 or address in _ASSIGNED_IPV6)  # a::b is a name in C++ and Rust


def _has_digits_of_phone(text: str) -> bool:
    return _MIN_PHONE_DIGITS <= sum(map(str.isdigit, text)) <= _MAX_PHONE_DIGITS


def _matches(
    pattern: re.Pattern[str], text: str, check: Callable[[str], bool], start: int, end: int
) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text, start, end):
        found = match.group()
        gap = len(found) - len(found.lstrip(" -\u00a0"))
        if check(found.strip(" -\u00a0")):
            yield match.start() + gap, match.end()


_NUMBERS: list[tuple[str, re.Pattern[str], Callable[[str], bool]]] = [
    ("id_numbers", _ID_NUMBER, is_chinese_id),
    ("bank_cards", _BANK_CARD, is_bank_card),
    *(("phones", pattern, _has_digits_of_phone if pattern is _WITH_COUNTRY_CODE else bool) for pattern in _PHONES),
]
_ANY_NUMBER = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern, _ in _NUMBERS))  # most numbers are none of these


def find_personal_data(given: Text) -> list[Found]:
    """Spans of personal data in order, none within another: addresses first, then checked numbers, phones last.

    The patterns cost tens of nanoseconds a character, so one pass says first where each may match.
    """
    wide, signs, dots, colons, runs = kernels.number_places(given)
    if not (wide or signs or dots or colons or runs):
        return []
    text = as_str(given)
    if wide:
        text = text.translate(_HALF_WIDTH)
        _, signs, dots, colons, runs = kernels.number_places(text)
    found = [Found(start, end, "emails") for start, end in _emails(text)] if signs else []

    def take(kind: str, spans: Iterator[tuple[int, int]]) -> None:
        for start, end in spans:
            if _is_free(found, start, end):
                insort(found, Found(start, end, kind))

    if dots:
        take("ip_addresses", _ipv4_addresses(text))
    if colons:
        take("ip_addresses", _matches(_IPV6, text, is_public_ip, 0, len(text)))
    addresses = list(found)
    if runs and not text.isascii():
        for sign, ascii_sign in _NUMBER_SIGNS:
            text = text.replace(sign, ascii_sign)
    for start, end in _numbers(text, runs):
        if not _is_free(addresses, start, end):
            continue
        first, last = max(0, start - 1), min(len(text), end + 1)  # one character more on the right, so that what must not follow is seen
        if _ANY_NUMBER.search(text, first, last) and not _OTHER_NUMBER.search(text, max(0, start - _MAX_WORD), start):
            for kind, pattern, check in _NUMBERS:
                take(kind, _matches(pattern, text, check, first, last))
    return found


def _is_free(taken: list[Found], start: int, end: int) -> bool:
    """Whether none of `taken`, which are in order and none within another, has a character in common with this span."""
    at = bisect_left(taken, (end,))  # the first that begins behind it
    return not at or taken[at - 1].end <= start


def _emails(text: str) -> Iterator[tuple[int, int]]:
    """Matches of _EMAIL, sought where a name ends with an @."""
    free, at = 0, text.find("@")
    while at >= 0:
        before = text[max(free, at - _MAX_NAME) : at]
        name = before[len(before.rstrip(_NAME_CHARACTERS)) :].lstrip(_NAME_SIGNS)
        if name and (match := _EMAIL.match(text, at - len(name))):
            free = match.end()
            if name.lower() not in _SHARED_NAMES and not match.group().lower().endswith(_FILE_ENDINGS):
                yield match.span()
        at = text.find("@", max(at + 1, free))


def _ipv4_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Public addresses; a version's number is none."""
    for start, end in _matches(_IPV4, text, is_public_ip, 0, len(text)):
        if not _NOT_AN_ADDRESS.search(text, max(0, start - _MAX_WORD), start):
            yield start, end


def _numbers(text: str, runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Matches of _NUMBER, sought around each row of digits."""
    for first, last in runs:
        yield from (match.span() for match in _NUMBER.finditer(text, max(0, first - 2), last + 2))


def redact(text: str, kinds: Collection[str] = tuple(MARKS)) -> str:
    """`text` with personal data of these kinds replaced by MARKS."""
    if not kinds:
        return text
    parts: list[str] = []
    at = 0
    for item in find_personal_data(text):
        if item.kind not in kinds:
            continue
        parts += [text[at : item.start], MARKS[item.kind]]
        at = item.end
    return "".join([*parts, text[at:]])
