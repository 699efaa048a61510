"""Which encoding a page is in, and its text.

Order: byte-order mark; UTF-16 by the zeros of its markup; UTF-8 wherever the bytes are that, whatever is declared; then what is
declared, unless the bytes speak against it; last uchardet's guess. A header that says ISO-8859-1 comes behind the page's own word:
many servers send it for everything. Text that reads as Chinese, Japanese or Korean under another encoding than the declared one,
and not under that, is of the other: Big5 that is declared as GB2312 decodes without an error, to rare characters. So is text that is
declared as Western where its letters beyond ASCII stand in whole words: Cyrillic, Greek, Arabic or Hebrew.
Names follow the WHATWG Encoding Standard, so "gb2312" is read as GB18030 and "iso-8859-1" as windows-1252.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
_META = re.compile(rb"""<meta[^>]{0,300}?charset\s*=\s*["']?\s*([a-zA-Z0-9_:.-]{2,40})""", re.IGNORECASE)
_HEADER = re.compile(r"""charset\s*=\s*["']?\s*([a-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}encoding\s*=\s*["']([a-zA-Z0-9_:.-]{2,40})""")
_META_BYTES = 4096
_READ_BYTES = 1 << 13  # of the sample, to tell which language it reads as
_HEAD_BYTES = 1024  # looked through for the zeros of UTF-16
_SAMPLE_BYTES = 1 << 16  # from the first byte beyond ASCII on
_MOST_WRONG = 100  # one byte in so many may be wrong: pages are pasted together, and titles cut between bytes
_WESTERN = "cp1252"
_HIGH_LETTERS = bytes(range(0xC0, 0x100))
_HIGH_WORD = re.compile(rb"[\xc0-\xff]{4,}")  # in cp1252 four letters beyond ASCII; no Western language writes them often
_SHIFTS = (b"\x1b$B", b"\x1b$@", b"\x1b(J")  # to the character sets of ISO-2022-JP, which browsers know by them
# What the WHATWG means by these names decodes more than Python's codecs of the name: GB18030, Hong Kong's characters, Microsoft's.
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
_EAST_ASIAN = ("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949")  # looked for where what is declared does not read as one
# The commonest characters of Chinese in both scripts (Da 2004), hiragana, common Hangul, and the marks between sentences: in running
# text a third of the characters and more, where it was decoded wrongly hardly any.
_COMMON = frozenset(
    "的一是不了在人有我他这这個们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "這個們來為國說時會對於著過發後裡與從還沒這樣麼無學經"
    "，。、：；？！「」《》"
    "あいうえおかがきくけこさしすせそただちってでとなにのはまみもよらりるれろわをん"
    "이다는을를에의가고하지은한도로기사서시어나리인자"
)
_MIN_COMMON, _MIN_COMMON_SHARE = 3, 0.1


def find_charset(payload: bytes, content_type: str = "") -> str:
    """A Python codec name for `payload`; never fails."""
    for mark, name in _BOMS:
        if payload.startswith(mark):
            return name
    if utf16 := _utf16_by_its_zeros(payload[:_HEAD_BYTES]):
        return utf16
    if payload.isascii():
        shifted = "iso2022_jp" if any(shift in payload for shift in _SHIFTS) else "utf-8"
        return next((codec for codec in _declared(payload, content_type) if codec.startswith("iso2022")), shifted)
    return "utf-8" if _error(payload, "utf-8") is None else _told_by_the_bytes(payload, content_type)


def decode(payload: bytes, charset: str | None) -> str:
    """Text of `payload`; wrong bytes become U+FFFD, a byte-order mark goes."""
    try:
        text = payload.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        text = payload.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def text_of(payload: bytes) -> str:
    """Text that came without a word about its encoding: a line of rows, a text to learn from."""
    return decode(payload, find_charset(payload))


def read_words(path: Path) -> str:
    """A person's list of words, which are too few to tell another encoding by: UTF-8, or UTF-16 with its mark.

    Raises:
        ValueError: it is neither; names the file and the place.
    """
    payload = path.read_bytes()
    try:
        return payload.decode("utf-16" if payload.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 at byte {error.start}; save the file as UTF-8") from None


def _told_by_the_bytes(payload: bytes, content_type: str) -> str:
    """Of a page beyond ASCII that is not UTF-8 from its first byte to its last."""
    first = _error(payload, "ascii") or 0
    sample = payload[first : first + _SAMPLE_BYTES]
    if _fits("utf-8", sample):
        return "utf-8"
    declared = [codec for codec in _declared(payload, content_type) if _fits(codec, sample)]
    near = sample[:_READ_BYTES]
    if found := next((codec for codec in declared if _is_east_asian(codec, near)), None):
        return found
    eastern = [codec for codec in _EAST_ASIAN if _fits(codec, near) and _is_east_asian(codec, near)]
    if declared and not eastern and not (declared[0] == _WESTERN and _is_of_high_words(near)):
        return declared[0]
    guess = _codec(detect_encoding(payload, max_len=_SAMPLE_BYTES) or "") or "utf-8"
    return eastern[0] if eastern and guess not in eastern else guess


def _utf16_by_its_zeros(head: bytes) -> str | None:
    """Markup in UTF-16 has a zero in every other byte; without them a declared UTF-16 is none (WHATWG HTML, 13.2.3.3)."""
    first, second = head[::2].count(0), head[1::2].count(0)
    for zeros, others, name in ((second, first, "utf-16-le"), (first, second, "utf-16-be")):
        if zeros * 8 > len(head) and others * 8 < zeros:  # a quarter of the characters; some Chinese ones end in a zero
            return name
    return None


def _error(payload: bytes, codec: str) -> int | None:
    """The first byte that is no text in this encoding; None where all are."""
    try:
        payload.decode(codec)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _declared(payload: bytes, content_type: str) -> list[str]:
    """What the header and the page's own meta element or XML declaration say, the more trustworthy first."""
    header = _HEADER.search(content_type)
    head = payload[:_META_BYTES]
    meta = _META.search(head) or _XML.search(head)
    of_header, of_page = _codec(header.group(1)) if header else None, _codec(meta.group(1).decode("ascii")) if meta else None
    order = [of_page, of_header] if of_header == _WESTERN else [of_header, of_page]
    return [codec for codec in order if codec and not codec.startswith("utf-16")]


def _codec(name: str) -> str | None:
    mapped = map_encoding_to_html5(name, fallback_utf8=False)
    if not mapped:
        return None
    try:
        found = codecs.lookup(mapped).name
    except LookupError:
        return None
    return _WIDER.get(found, found)


def _text(codec: str, sample: bytes) -> str:
    """`sample` without a last character that is cut off."""
    return codecs.getincrementaldecoder(codec)("replace").decode(sample)


def _fits(codec: str, sample: bytes) -> bool:
    """Whether nearly all bytes beyond ASCII are text in this encoding."""
    text = _text(codec, sample)
    wrong = text.count("\ufffd")
    high = len(sample) - len(sample.decode("ascii", "ignore"))
    return wrong * _MOST_WRONG <= high and not text.replace("\ufffd", "").isascii()


def _is_of_high_words(sample: bytes) -> bool:
    """Whether most letters beyond ASCII, as cp1252 has them, stand in words of their own."""
    high = len(sample) - len(sample.translate(None, _HIGH_LETTERS))
    return sum(map(len, _HIGH_WORD.findall(sample))) * 2 > high


def _is_east_asian(codec: str, sample: bytes) -> bool:
    """Whether the sample reads as running text of Chinese, Japanese or Korean."""
    beyond = [character for character in _text(codec, sample) if character > "\x7f"]
    common = sum(map(_COMMON.__contains__, beyond))
    return common >= _MIN_COMMON and common >= _MIN_COMMON_SHARE * len(beyond)
