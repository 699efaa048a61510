from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import kernels
from data.corpus import personal_data
from data.corpus.personal_data import find_personal_data, is_bank_card, is_chinese_id, is_public_ip, redact
from data.corpus.sensitive import Terms, parse_terms, sensitive_labels
from data.settings import SensitiveSettings
from tests.data.corpus.helpers import documents


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to a.b+c@mail.example.com, please", "write to <EMAIL>, please"),
        ("邮箱wang@mail.example请联系", "邮箱<EMAIL>请联系"),
        ("call +1 (555) 234-5678 now", "call <PHONE> now"), ("call 415-555-2671.", "call <PHONE>."),
        ("(415) 555-2671", "<PHONE>"), ("+44 20 7946 0958", "<PHONE>"), ("+49 (0)30 1234567", "<PHONE>"),
        ("电话13812345678找我", "电话<PHONE>找我"), ("手机 138-1234-5678", "手机 <PHONE>"), ("+86 138 1234 5678", "<PHONE>"),
        ("手机：１３８１２３４５６７８。", "手机：<PHONE>。"), ("信箱ｗａｎｇ＠ｍａｉｌ．ｅｘａｍｐｌｅ，", "信箱<EMAIL>，"),
        ("座机010-62345678", "座机<PHONE>"), ("电话0571-88888888/87654321。", "电话<PHONE>。"), ("FAX 86 21 62781234", "FAX <PHONE>"),
        ("info@github.com", "<EMAIL>"), ("合计 13800000000", "合计 <PHONE>"), ("热线400-123-4567", "热线<PHONE>"),
        ("电话（010）62345678。", "电话<PHONE>。"), ("(010) 6234 5678", "<PHONE>"), ("010—62345678转801", "<PHONE>转801"),
        ("总机0755-62345678-80123，", "总机<PHONE>，"), ("86-021-62345678", "<PHONE>"), ("+86（021）62345678", "<PHONE>"),
        ("電話：02-2345-6789", "電話：<PHONE>"), ("手機 0912-345-678", "手機 <PHONE>"), ("TEL 03-1234-5678", "TEL <PHONE>"),
        ("ring 020 7946 0958 or 07911 123456", "ring <PHONE> or <PHONE>"), ("身份证 110105 19491231 002X", "身份证 <ID_NUMBER>"),
        ("server 93.184.216.34 answers", "server <IP_ADDRESS> answers"), ("amex 3782 822463 10005", "amex <BANK_CARD>"),
        ("host 93.184.216.34 answers", "host <IP_ADDRESS> answers"), ("2606:2800:220:1:248:1893:25c8:1946", "<IP_ADDRESS>"),
        ("身份证11010519491231002X。", "身份证<ID_NUMBER>。"), ("card 4111 1111 1111 1111", "card <BANK_CARD>"),
        ("card 5500-0055-5555-5559 ok", "card <BANK_CARD> ok"), ("卡号 6222021234567890120", "卡号 <BANK_CARD>"),
    ],
)  # fmt: skip
def test_found(text: str, redacted: str) -> None:
    if "6222021234567890120" in text and not is_bank_card("6222021234567890120"):
        text = text.replace("6222021234567890120", next(n for n in (f"622202123456789012{d}" for d in range(10)) if is_bank_card(n)))
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "from 1999-2003 to 2004-2008", "costs 1,234,567,890 dollars", "version 10.2.1", "192.168.0.1 and 127.0.0.1",
        "ISBN 978-3-16-148410-0", "pi is 3.14159265358979", "1234567890123", "110105194912310021", "at 12:30:45:10",
        "scores 555-12 and 7-6 6-4 3-6", "@mention and a@b", "2024-05-01T10:00:00Z", "共有123456789人", "1 2 3 4 5 6 7 8 9 10 11 12",
        "C++::operator", "股票代码600519", "a::b and ad::Cafe", "version 1.2.3.4", "版本号：5.6.7.8", "条码6901234567892", "05-12-2024",
        "ISBN 0-306-40615-2", "2010–2020年",
        "image@2x.png", "git clone git@github.com:someone/code.git", "pages 211-215-2200", "￥13800000000", "¥ 13800000000",
    ],
)  # fmt: skip
def test_not_found(text: str) -> None:
    assert find_personal_data(text) == []


def test_check_digits() -> None:
    assert is_chinese_id("11010519491231002X")
    assert not is_chinese_id("110105194912310021")
    assert not is_chinese_id("110105194913310021")  # a thirteenth month
    assert is_bank_card("4539 1488 0343 6467")
    assert not is_bank_card("4539 1488 0343 6468")


@settings(deadline=None)
@given(st.text(alphabet="0123456789 -.+()@:abX", max_size=80))
def test_redaction_is_complete_and_spans_do_not_meet(text: str) -> None:
    spans = find_personal_data(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(text[span.start : span.end].strip() for span in spans)
    redact(text)


def test_hostile_text_takes_no_time() -> None:
    for text in ("1" * 200_000, "1 " * 100_000, "a@" * 100_000, ":" * 200_000, "+1-" * 70_000, "a." * 100_000 + "@"):
        redact(text)


def test_terms_match_whole_words(tmp_path: Path) -> None:
    terms = Terms(parse_terms("# list\ngambling\tRed Coin\nadult\t绯帘\nplain # remark\n"))
    assert terms.topics == ["adult", "gambling", "listed"]
    counts, total = terms.count("A red   coin, RED COINS, and the plain plains. 看绯帘秀和绯帘。")
    assert (dict(counts), total) == ({"gambling": 1, "listed": 1, "adult": 2}, 4)
    assert Terms([]).count("anything") == ({}, 0)


def test_every_way_of_writing_a_term_is_the_same_term() -> None:
    terms = Terms(parse_terms("politics\t灰旗同盟\npolitics\t乾坤會\nscam\tfree money\n"))
    text = "灰旗同盟 灰旗同盟。灰\u200b旗同盟，灰旗同盟會；乾坤会、乾坤會； ＦＲＥＥ　ＭＯＮＥＹ, Free\u00ad Money, freemoney."
    assert terms.count(text)[0] == {"politics": 6, "scam": 2}
    assert terms.count("乾淨") == ({}, 0)


def test_patterns() -> None:
    terms = Terms(parse_terms("scam\t" + r"/\b(?:win|earn) \$?[0-9]{3,}/" + "\n" + r"/加.{0,2}微信/" + "\nscam\tpyramid\n"))
    assert terms.topics == ["listed", "scam"]
    assert terms.count("Win $500 or EARN 1000, a pyramid; 加我微信 加V微信")[0] == {"scam": 3, "listed": 2}
    for line, message in (("/(/", "no regular expression"), ("/a*/", "matches an empty text")):
        with pytest.raises(ValueError, match=message):
            parse_terms(line)


def test_thousands_of_terms_are_searched_at_once() -> None:
    """A text is read once whatever the number of terms: twenty thousand terms are found, and none too many."""
    terms = Terms(parse_terms("\n".join(f"topic {n % 5}\tterm{n}x" for n in range(20_000))))
    assert terms.topics == [f"topic_{n}" for n in range(5)]
    assert terms.count("term1x term77777x Term19999x term5xy")[0] == {"topic_1": 1, "topic_4": 1}


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("politics\tgrey banner\n", encoding="utf-8")
    config = SensitiveSettings(terms_file=str(tmp_path / "terms.txt"), use_bundled_terms=False)
    rows = sensitive_labels(documents("Grey banner! a@b.example 13812345678", "", "clean"), config).to_pylist()
    assert rows[0] | {"id": ""} == {
        "id": "", "politics_terms": 1, "sensitive_terms": 1, "sensitive_terms_per_1000_words": 2.0, "emails": 1, "id_numbers": 0,
        "bank_cards": 0, "ip_addresses": 0, "phones": 1, "personal_data": 2,
    }  # fmt: skip
    assert rows[1]["personal_data"] == rows[2]["sensitive_terms"] == 0


def test_personal_data_is_found_as_by_patterns_over_the_whole_text() -> None:
    """Where a pattern may match is worked out before; what it finds must be what it finds by itself."""
    random_ = random.Random(1)
    pieces = [*"0123456789" * 4, *"..@@::--  ()+/aabbXx\u00a0中", "a.b@c.co", "13812345678", "8.8.8.8", "4111 1111 1111 1111", "2001:db8::1", "+49 30 1234567"]
    for _ in range(1000):
        text = "".join(random_.choices(pieces, k=random_.randint(0, 60)))
        found = find_personal_data(text)
        emails = [match.span() for match in personal_data._EMAIL.finditer(text)]
        assert [item[:2] for item in found if item.kind == "emails"] == emails
        taken = [item[:2] for item in found if item.kind in ("emails", "ip_addresses")]
        addresses = [match for match in personal_data._IPV4.finditer(text) if is_public_ip(match.group())]
        assert all(any(start < match.end() and match.start() < end for start, end in taken) for match in addresses)
        numbers = [match.span() for match in personal_data._NUMBER.finditer(text)]
        assert list(personal_data._numbers(text, kernels.number_places(text)[4])) == numbers
