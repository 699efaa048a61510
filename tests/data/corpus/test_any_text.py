"""Every function that reads texts takes any text: a row for each, in its order, the same alone as in company."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.decontamination import contamination_labels, write_index
from data.corpus.duplicates.minhash import signatures
from data.corpus.language import language_labels, rough_gate
from data.corpus.learned.classifiers import classifier_labels, text_features
from data.corpus.learned.linear_model import train
from data.corpus.lines import filter_lines
from data.corpus.perplexity import perplexity_labels, train_models
from data.corpus.quality import quality_labels
from data.corpus.sensitive import sensitive_labels
from data.document import DOCUMENT_SCHEMA, PAGE_SCHEMA
from data.settings import (
    ClassifierSettings,
    DecontaminationSettings,
    DedupSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SensitiveSettings,
)
from data.shards import write_shard
from data.text import clean_text

Label = Callable[[pa.Table], pa.Table]
STAGES = ("language", "quality", "lines", "signatures", "perplexity", "sensitive", "decontamination", "classifiers")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Label]:
    """Each stage as a function of documents alone, with small models of its own."""
    folder = tmp_path_factory.mktemp("stages")
    train_models(folder / "models", PerplexitySettings())
    questions = ["Which of these four birds can swim under water, and which can fly over the sea?", "小明有三个苹果，他给了小红一个以后又买了五个，现在小明一共有几个苹果？"]
    write_index(questions, folder / "index.npz", DecontaminationSettings())
    train("quality", text_features(["the old mill", "cheap pills"] * 8), ["trusted", "raw"] * 8, 18, seed=1).save(folder / "q.npz")

    def perplexity(documents: pa.Table) -> pa.Table:
        langs = ["en" if number % 2 else "zh" for number in range(documents.num_rows)]
        write_shard(folder / "labels.parquet", pa.table({"id": documents["id"], "lang": pa.array(langs, pa.string())}))
        return perplexity_labels(documents, PerplexitySettings(), models=folder / "models", labels=folder / "labels.parquet")

    def lines(documents: pa.Table) -> pa.Table:
        """What became of each document."""
        decided = filter_lines(documents, LineSettings())
        assert decided.labels is not None and decided.labels["id"].to_pylist() == decided.kept["id"].to_pylist()
        became = {row["id"]: row["text"] for row in decided.kept.to_pylist()} | {row["id"]: row["value"] for row in decided.dropped.to_pylist()}
        return pa.table({"id": documents["id"], "became": pa.array([became[name] for name in documents["id"].to_pylist()], pa.string())})

    return {
        "language": partial(language_labels, settings=LanguageSettings()),
        "quality": partial(quality_labels, settings=QualitySettings()),
        "lines": lines,
        "signatures": partial(signatures, settings=DedupSettings()),
        "perplexity": perplexity,
        "sensitive": partial(sensitive_labels, settings=SensitiveSettings()),
        "decontamination": partial(contamination_labels, settings=DecontaminationSettings(), index=folder / "index.npz"),
        "classifiers": partial(classifier_labels, settings=ClassifierSettings(quality_model=str(folder / "q.npz"))),
    }


def _documents(texts: list[str]) -> pa.Table:
    """As extraction leaves them: cleaned."""
    rows = [{"id": f"{number:032x}", "source": f"a#{number}", "text": clean_text(text)} for number, text in enumerate(texts)]
    return pa.Table.from_pylist(rows, DOCUMENT_SCHEMA)


HOSTILE = {
    "empty": "", "white": " \n\t\u3000\u00a0\u2028" * 10_000, "one word": "x" * 300_000, "one Han word": "字" * 300_000, "letters alone": "a " * 150_000,
    "short lines": "x\n" * 150_000, "blank lines": "\n" * 300_000, "the same line": "Read more about this.\n" * 15_000, "marks": "e" + "\u0301" * 100_000,
    "joined": "\U0001f468\u200d\U0001f469\u200d" * 30_000, "right to left": "\u202eمرحبا \u202d" * 20_000, "private": "\ue000\U000f0000\U0010ffff" * 50_000,
    "brackets": "([{<" * 50_000, "ats": "a@" * 100_000, "digits": "1-" * 100_000 + "1" * 100_000, "dots": "." * 300_000, "colons": "::1:" * 50_000,
    "growing": "\ufdfa" * 20_000, "full width": "ＡＢＣ１２３" * 30_000, "many words": " ".join(map(str, range(50_000))), "broken": "\ufffd" * 100_000,
    "no text": "\0\ud800\ufeff", "separators": "a | b » c › " * 20_000, "dotted capitals": "İ" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_hostile_texts_are_measured_in_bounded_time(stages: dict[str, Label], stage: str) -> None:
    """Some 6 MB of what is worst for somebody: a stage that takes time in the square of a text would take hours."""
    documents = _documents(list(HOSTILE.values()))
    started = time.process_time()
    found = stages[stage](documents)
    assert time.process_time() - started < 60
    assert found["id"].to_pylist() == documents["id"].to_pylist()


@pytest.mark.parametrize("stage", STAGES)
@settings(deadline=None, max_examples=15)
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_any_texts_measure_the_same_alone_as_together(stages: dict[str, Label], stage: str, texts: list[str]) -> None:
    documents = _documents(texts)
    together = stages[stage](documents).to_pylist()
    assert [row["id"] for row in together] == documents["id"].to_pylist()
    if stage != "perplexity":  # whose stand-in for languages goes by the place
        assert together == [row for at in range(len(texts)) for row in stages[stage](documents.slice(at, 1)).to_pylist()]


def test_the_gate_takes_hostile_texts_and_the_same_as_pages() -> None:
    """Texts as pages: as they are, and as markup that ends nowhere."""
    rows: list[dict[str, Any]] = [{"id": f"{n:032x}", "source": f"a#{n}", "text": text} for n, text in enumerate(map(clean_text, HOSTILE.values()))]
    rows += [{"id": "f" * 32, "source": f"b#{n}", "html": f"<p {text}<".encode(), "charset": "utf-8"} for n, text in enumerate(map(clean_text, HOSTILE.values()))]
    pages = pa.Table.from_pylist(rows, PAGE_SCHEMA)
    started = time.process_time()
    decided = rough_gate(pages, LanguageSettings())
    assert time.process_time() - started < 60
    assert decided.kept.num_rows + decided.dropped.num_rows == pages.num_rows


def test_nothing_at_all(stages: dict[str, Label], tmp_path: Path) -> None:
    for stage in STAGES:
        assert stages[stage](DOCUMENT_SCHEMA.empty_table()).num_rows == 0
