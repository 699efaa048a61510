from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.reading.charset import decode, find_charset, text_of

CHINESE = "今天的天气很好，我们去公园散步。" * 3
TRADITIONAL = "今天的天氣很好，我們去公園散步，孩子們在湖邊放風箏。" * 3
HONG_KONG = "佢哋喺嗰度食嘢，啲嘢好好食，我哋都鍾意。" * 3  # 喺嗰啲 are Hong Kong's, beyond Big5 itself
JAPANESE = "今日はとても良い天気ですね。公園へ散歩に行きましょう。①㈱" * 3  # the last two are Microsoft's
KOREAN = "오늘은 날씨가 매우 좋습니다. 공원에 가서 산책을 합시다. 똠방각하" * 3  # 똠 is beyond EUC-KR itself
RUSSIAN = "Сегодня очень хорошая погода, мы идём гулять в парк. " * 3
FRENCH = "Il fait très beau aujourd'hui, nous allons nous promener où l'été dure. "
BEYOND_GBK = "𠀀㐀的一种写法，也是在书里的。"  # four bytes each in GB18030


@pytest.mark.parametrize(
    ("payload", "content_type", "text"),
    [
        (CHINESE.encode(), "text/html; charset=iso-8859-1", CHINESE),  # valid UTF-8 wins over a wrong header
        (CHINESE.encode("gbk"), "text/html; charset=gb2312", CHINESE),
        (b'<meta charset="gbk">' + CHINESE.encode("gbk"), "text/html", '<meta charset="gbk">' + CHINESE),
        (CHINESE.encode("gbk"), "text/html; charset=utf-8", CHINESE),  # a wrong header; detected
        (CHINESE.encode("gb18030"), "", CHINESE),
        (BEYOND_GBK.encode("gb18030"), "text/html; charset=gb2312", BEYOND_GBK),
        (TRADITIONAL.encode("big5"), "", TRADITIONAL),
        (TRADITIONAL.encode("big5"), "text/html; charset=big5", TRADITIONAL),
        (HONG_KONG.encode("big5hkscs"), "text/html; charset=big5", HONG_KONG),
        (JAPANESE.encode("cp932"), "text/html; charset=shift_jis", JAPANESE),
        (JAPANESE[:26].encode("euc_jp"), "text/html; charset=euc-jp", JAPANESE[:26]),
        (JAPANESE[:26].encode("euc_jp"), "text/html; charset=iso-8859-1", JAPANESE[:26]),
        (KOREAN.encode("cp949"), "text/html; charset=euc-kr", KOREAN),
        ("naïve café".encode("latin-1"), "text/html; charset=iso-8859-1", "naïve café"),
        ((FRENCH * 3).encode("latin-1"), "text/html; charset=iso-8859-1", FRENCH * 3),
        ("\ufeffmarked é".encode(), "", "marked é"),
        ("“quoted”".encode("cp1252"), 'text/html; charset="ISO-8859-1"', "“quoted”"),
        (b"plain", "text/html; charset=nonsense", "plain"),
        (JAPANESE[:26].encode("iso2022_jp"), "text/html; charset=iso-8859-1", JAPANESE[:26]),
        (RUSSIAN.encode("cp1251"), "text/html; charset=iso-8859-1", RUSSIAN),
        (b'<meta charset="windows-1252">' + (RUSSIAN * 2).encode("koi8-r"), "", '<meta charset="windows-1252">' + RUSSIAN * 2),
        ((FRENCH + "ÀÉÈÊ " + FRENCH).encode("latin-1"), "text/html; charset=iso-8859-1", FRENCH + "ÀÉÈÊ " + FRENCH),
    ],
)
def test_charsets(payload: bytes, content_type: str, text: str) -> None:
    assert decode(payload, find_charset(payload, content_type)) == text


def test_lines_and_lists() -> None:
    assert text_of(b"\xef\xbb\xbf" + CHINESE.encode()) == text_of(CHINESE.encode("gb18030")) == text_of(CHINESE.encode("utf-16")) == CHINESE


EAST_ASIAN = [
    (CHINESE, "gbk"), (TRADITIONAL, "gb18030"), (TRADITIONAL, "big5"), (HONG_KONG, "big5hkscs"), (JAPANESE, "cp932"), (KOREAN, "cp949"), (JAPANESE[:26], "euc_jp"),
]  # fmt: skip
WRONG = ["", "utf-8", "iso-8859-1", "gb2312", "big5", "windows-1252", "us-ascii", "utf-16"]


@pytest.mark.parametrize(
    ("text", "encoding", "header"),
    [(*page, header) for page in EAST_ASIAN for header in WRONG if (page[1], header) != ("euc_jp", "gb2312")],  # they write hiragana alike
    ids=lambda value: value if value.isascii() else "page",
)
def test_a_wrong_header_does_not_break_east_asian_pages(text: str, encoding: str, header: str) -> None:
    page = f"<html><head><title>{text[:20]}</title></head><body><p class='a'>{text}</p></body></html>"
    payload = page.encode(encoding)
    assert decode(payload, find_charset(payload, f"text/html; charset={header}")) == page


@pytest.mark.parametrize("header", ["iso-8859-1", "ISO-8859-1", "latin1"])
def test_the_pages_own_word_goes_before_a_servers_default(header: str) -> None:
    page = f'<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">{RUSSIAN}'
    assert decode(page.encode("cp1251"), find_charset(page.encode("cp1251"), f"text/html; charset={header}")) == page
    other = page.replace("windows-1251", "koi8-r")
    assert find_charset(other.encode("cp1251"), "text/html; charset=windows-1251") == "cp1251"  # any other header is one


def test_a_broken_character_costs_itself() -> None:
    """A title cut between two bytes, as content systems do: the page stays UTF-8, whatever the header says."""
    payload = CHINESE[:9].encode()[:-1] + b"..." + (CHINESE * 5).encode()
    for content_type in ("", "text/html; charset=gb2312"):
        assert decode(payload, find_charset(payload, content_type)) == CHINESE[:8] + "\ufffd..." + CHINESE * 5
    assert find_charset((CHINESE * 5).encode()[:-1]) == "utf-8"  # cut at its end
    assert decode(b"caf\xe9", find_charset(b"caf\xe9", "text/html; charset=iso-8859-1")) == "café"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [CHINESE, "Plain English text. "])
def test_utf16_without_a_mark(text: str, encoding: str) -> None:
    page = f"<html><head><title>{text[:10]}</title></head><body><p>{text * 3}</p></body></html>"
    assert find_charset(page.encode(encoding), "text/html; charset=gb2312") == encoding
    assert find_charset(bytes(1000) + page.encode()) == "utf-8", "a heap of zeros is none"


def test_what_is_far_down_counts() -> None:
    """The first byte beyond ASCII may come late; sixty-four kilobytes from there on are looked at."""
    payload = b"<p>" + b"x" * 200_000 + CHINESE.encode("gbk")
    assert find_charset(payload, "text/html; charset=iso-8859-1") == "gb18030"


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "charset=gbk", "charset=utf-16", "charset=hex", "charset=rot13"]))
def test_any_bytes_decode(payload: bytes, content_type: str) -> None:
    assert isinstance(decode(payload, find_charset(payload, content_type)), str)


WESTERN = ["été", "où", "garçon", "señor", "über", "“quoted”", "naïve", "—", "ça", "Straße", "plain", "€5", "él", "à"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WESTERN), max_size=30))
def test_western_text_is_never_taken_for_east_asian(words: list[str]) -> None:
    payload = " ".join(words).encode("cp1252")
    assert decode(payload, find_charset(payload, "text/html; charset=iso-8859-1")) == " ".join(words)
