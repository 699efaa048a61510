"""Which encoding a page is in, and its text.

Order: byte-order mark, valid UTF-8 (a page that decodes as UTF-8 and has multi-byte characters is UTF-8 whatever its
headers say), HTTP header, meta element, and last uchardet's guess. Names follow the WHATWG Encoding Standard, so
"gb2312" is read as GBK and "iso-8859-1" as windows-1252.
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
_META = re.compile(rb"""<meta[^>]{0,300}?charset\s*=\s*["']?\s*([a-zA-Z0-9_:.-]{2,40})""", re.IGNORECASE)
_HEADER = re.compile(r"""charset\s*=\s*["']?\s*([a-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}encoding\s*=\s*["']([a-zA-Z0-9_:.-]{2,40})""")
_META_BYTES = 4096


def find_charset(payload: bytes, content_type: str = "") -> str:
    """A Python codec name for `payload`; never fails."""
    for mark, name in _BOMS:
        if payload.startswith(mark):
            return name
    if payload.isascii():
        declared = _declared(payload, content_type)
        return declared if declared and declared.startswith("iso2022") else "utf-8"
    try:
        payload.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start > len(payload) - 4 and error.start > 64:  # cut inside the last character
            return "utf-8"
    declared = _declared(payload, content_type)
    if declared and not (declared == "utf-8" and _mostly_wrong(payload)):
        return declared
    return _codec(detect_encoding(payload, max_len=1 << 16) or "utf-8") or "utf-8"


def decode(payload: bytes, charset: str | None) -> str:
    """Text of `payload`; wrong bytes become U+FFFD, a byte-order mark goes."""
    try:
        text = payload.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        text = payload.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def _declared(payload: bytes, content_type: str) -> str | None:
    header = _HEADER.search(content_type)
    if header and (codec := _codec(header.group(1))):
        return codec
    head = payload[:_META_BYTES]
    meta = _META.search(head) or _XML.search(head)
    return _codec(meta.group(1).decode("ascii")) if meta else None


def _codec(name: str) -> str | None:
    mapped = map_encoding_to_html5(name, fallback_utf8=False)
    if not mapped:
        return None
    try:
        found = codecs.lookup(mapped)
    except LookupError:
        return None
    # GBK's superset also decodes what pages in "gb2312" really hold.
    return "gb18030" if found.name in ("gbk", "gb2312") else found.name


def _mostly_wrong(payload: bytes) -> bool:
    """Whether a payload that is said to be UTF-8 fails in more than one of a hundred of its non-ASCII bytes."""
    sample = payload[: 1 << 16]
    high = len(sample) - len(sample.decode("ascii", "ignore"))
    return sample.decode("utf-8", "replace").count("\ufffd") * 100 > high
