from __future__ import annotations

import pytest

from data.corpus.language import identify, language_labels, rough_gate, strip_quickly
from data.settings import LanguageSettings
from tests.data.corpus.helpers import documents, pages

ENGLISH = "The river rises every spring and the ferry waits until the water falls again. "
GERMAN = "Der Fluss steigt in jedem Frühjahr, und die Fähre wartet, bis das Wasser wieder fällt. "
CHINESE = "每年春天河水都会上涨，渡船要等到水退了才开，人们就在岸边喝茶聊天。"


def _page(text: str, chrome: str = "") -> str:
    script = "<script>var a = 'this is english text in a script; it is long';</script>"
    return f"<html><head>{script}</head><body><nav>{chrome}</nav><p>{text}</p></body></html>"


def test_gate_drops_only_what_is_clearly_other() -> None:
    table = pages(
        _page(ENGLISH * 5), _page(GERMAN * 5), _page(CHINESE * 5), _page("kurz"), "", _page(ENGLISH * 5 + GERMAN * 5),
        _page(ENGLISH * 5, "<a>Impressum und Datenschutzerklärung dieser Seite</a>"),
    )  # fmt: skip
    decided = rough_gate(table, LanguageSettings())
    assert decided.kept["source"].to_pylist() == [f"a.warc#{n}" for n in (0, 2, 3, 4, 5, 6)]
    (dropped,) = decided.dropped.to_pylist()
    assert dropped["reason"] == "language"
    assert dropped["value"].startswith("de 0.9") or dropped["value"] == "de 1.00"


def test_gate_reads_other_charsets() -> None:
    table = pages(_page(CHINESE * 5).encode("gbk"), charset="gb18030")
    assert rough_gate(table, LanguageSettings(languages=["en"])).dropped.num_rows == 1
    assert rough_gate(table, LanguageSettings(languages=["zh"])).dropped.num_rows == 0


def test_strip_takes_text_and_no_script() -> None:
    assert strip_quickly(_page(ENGLISH).encode(), "utf-8").strip() == ENGLISH.strip()


def test_labels() -> None:
    mixed = (ENGLISH + CHINESE) * 5
    rows = language_labels(documents(ENGLISH, CHINESE, GERMAN, "", mixed, "a\nb\0c"), LanguageSettings()).to_pylist()
    assert [row["lang"] for row in rows[:4]] == ["en", "zh", "de", None]
    assert rows[0]["target_language_score"] == pytest.approx(rows[0]["language_score"], abs=0.01)
    assert rows[2]["target_language_score"] < 0.05
    assert rows[3]["language_score"] == 0
    assert rows[4]["lang"] in ("en", "zh")
    assert rows[4]["target_language_score"] > 0.65


def test_identify_takes_newlines_and_long_text() -> None:
    assert max(identify("line\n" * 3 + ENGLISH * 1000).items(), key=lambda item: item[1])[0] == "en"
    assert identify(" \n ") == {}
