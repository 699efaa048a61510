from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from data.corpus.language import (
    bundled_model,
    find_languages,
    identify,
    language_labels,
    rough_gate,
    strip_quickly,
)
from data.settings import LanguageSettings, Rule
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


def test_a_language_that_no_label_names_is_refused() -> None:
    """Else every document would be dropped, or a rule never apply."""
    for code in ("eng", "zh-cn", "ZH"):
        with pytest.raises(ValidationError, match=rf"the labels write '{code}' as '(en|zh)'"):
            LanguageSettings(languages=[code])
        with pytest.raises(ValidationError, match="the labels write"):
            Rule(reason="x", label="words", min=1, languages=[code])
    with pytest.raises(ValueError, match=r"language\.languages: the language model knows no xx; it knows .*\ben\b"):
        language_labels(documents(ENGLISH), LanguageSettings(languages=["en", "xx"]))


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
    found = find_languages([" \n ", ENGLISH, ""])
    assert [found.of(row) for row in range(3)] == [{}, identify(ENGLISH), {}]
    assert find_languages([]).numbers.shape == (0, 8)


class _GlotLid:
    """Names and scores as GlotLID gives them."""

    labels = ("__label__eng_Latn", "__label__deu_Latn", "__label__cmn_Hani", "__label__yue_Hani", "__label__wuu_Hani")

    def predict(self, texts: Sequence[str], most: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        found = [([0, 1, -1], [0.9, 0.1, 0]) if "the" in text else ([1, -1, -1], [0.7, 0, 0]) if "der" in text else ([2, 3, 4], [0.6, 0.2, 0.1]) for text in texts]
        numbers = np.array([number for number, _ in found], np.int32).reshape(-1, 3)
        return numbers, np.array([score for _, score in found], np.float32).reshape(-1, 3)


def test_a_model_that_names_languages_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("data.corpus.language.load_fasttext", lambda path: _GlotLid())
    rows = language_labels(documents("the", "der", "字"), LanguageSettings(model="glotlid.bin")).to_pylist()
    assert [(row["lang"], round(row["language_score"], 3)) for row in rows] == [("en", 0.9), ("de", 0.7), ("zh", 0.9)]


def test_each_language_has_its_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.corpus.language.load_fasttext", lambda path: _GlotLid())
    table = pages(_page("und der " + "xxx " * 50))
    assert rough_gate(table, LanguageSettings()).dropped["value"].to_pylist() == ["de 0.70"]
    assert rough_gate(table, LanguageSettings(rough_min_scores={"de": 0.8})).dropped.num_rows == 0
    assert rough_gate(table, LanguageSettings(rough_min_score=0.8, rough_min_scores={"de": 0.6})).dropped.num_rows == 1


def test_any_fasttext_file(tmp_path: Path) -> None:
    model = tmp_path / "mine.ftz"
    model.write_bytes(bundled_model().read_bytes())
    assert identify(ENGLISH, model) == identify(ENGLISH)
    (tmp_path / "no.bin").write_bytes(b"no model" * 100)
    with pytest.raises(ValueError, match=r"no\.bin: not a fastText model"):
        identify(ENGLISH, tmp_path / "no.bin")
