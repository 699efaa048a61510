"""Tasks of the corpus half that do more than map one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.corpus import perplexity
from data.corpus.duplicates import minhash
from data.document import DOCUMENT_SCHEMA, content_id
from data.settings import (
    BucketSettings,
    DedupSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    Rule,
    SelectionSettings,
)
from data.shards import shard_name, write_shard
from tasks import corpus as task
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Result
from tests.data.corpus.helpers import read_all

CHROME = "Our valley, our paper, every morning"
ARTICLE = "Article number {} tells of a different thing, and at some length, as all the articles of this paper do."


def _lines_of_a_host(run: Run) -> Made:
    """Three shards of two documents of one host, and one of another host."""
    rows = [(f"a.example/{number}", f"{ARTICLE.format(number)}\n{CHROME}") for number in range(6)]
    return _documents(run, [rows[:2], rows[2:4], [*rows[4:], ("b.example/", rows[4][1])]])


def _documents(run: Run, shards: list[list[tuple[str, str]]]) -> Made:
    """An artifact of these documents: address and text."""

    def build(draft: Draft) -> Result:
        for index, shard in enumerate(shards):
            rows: list[dict[str, Any]] = [
                {"id": content_id(url, text.encode()), "source": f"a#{index}-{n}", "url": f"http://{url}", "text": text} for n, (url, text) in enumerate(shard)
            ]
            write_shard(draft.out / "documents" / shard_name(index), pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
        count = sum(map(len, shards))
        return Result({"documents_in": count, "kept": count, "dropped": {}}, {})

    found: Made = make(run, "documents", 1, QualitySettings(), {}, build).data  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(("host_repeats", "with_chrome"), [(0, 7), (6, 1), (7, 7)])
def test_lines_of_a_host_over_all_its_shards(tmp_path: Path, host_repeats: int, with_chrome: int) -> None:
    run = Run(store=str(tmp_path / "store"))
    made: Made = task.clean_lines.fn(run, _lines_of_a_host(run), LineSettings(host_repeats=host_repeats)).data  # type: ignore[assignment]
    texts = [row["text"] for row in read_all(run.local(made.artifact) / "documents")]
    assert (len(texts), sum(CHROME in text for text in texts)) == (7, with_chrome)


def test_models_of_no_language_that_is_asked_for_are_refused(tmp_path: Path) -> None:
    """Else nothing would be measured and the perplexity filter be off, without a word."""
    run = Run(store=str(tmp_path / "store"))
    documents = _documents(run, [_half_copies()[:2]])
    languages = task.label_language.fn(run, documents, LanguageSettings()).data
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "topics.npz").write_bytes(b"")
    (tmp_path / "english.txt").write_text("the cat sat on the mat", encoding="utf-8")
    for given, named in (({"models": str(tmp_path / "models")}, "topics"), ({"trusted": str(tmp_path)}, "english")):
        with pytest.raises(ValueError, match=rf"perplexity\.{next(iter(given))}: .* models of {named}; needed is one of en, zh"):
            task.label_perplexity.fn(run, documents, languages, None, PerplexitySettings.model_validate(given))


def _half_copies() -> list[tuple[str, str]]:
    """Sixteen texts: of each two, the second has half the sentences of the first."""
    sentences = [ARTICLE.format(f"{a} and {b}").replace("paper", f"{a} paper") for a in ("tea", "salt", "rivers", "bread") for b in range(32)]
    texts = [text for at in range(8) for own in [sentences[at * 16 : at * 16 + 16]] for text in (own[:12], [*own[:8], *own[12:]])]
    return [(f"a.example/{number}", " ".join(text)) for number, text in enumerate(texts)]


def _decided(store: Path, threshold: float, tail: float) -> dict[str, Any]:
    """The corpus by these thresholds: every file of every stage, and which stages were reused."""
    run = Run(store=str(store))
    texts = _half_copies()
    documents = _documents(run, [texts[:5], texts[5:]])
    compared = DedupSettings.model_validate({"threshold": threshold, "bands": None, "rows": None})
    made = {"signatures": task.sign.fn(run, documents, compared.signatures)}
    made["duplicates"] = task.label_duplicates.fn(run, documents, made["signatures"].data, compared)
    made["language"] = task.label_language.fn(run, documents, LanguageSettings())
    made["perplexity"] = task.label_perplexity.fn(run, documents, made["language"].data, None, PerplexitySettings())
    made["buckets"] = task.label_buckets.fn(run, made["perplexity"].data, BucketSettings(tail_percentile=tail))
    labels: Any = {name: made[name].data for name in ("duplicates", "language", "perplexity", "buckets")}
    chosen = SelectionSettings(rules=[Rule(reason="perplexity", label="perplexity_bucket", none_of=["tail"])], prefer=None)
    made["corpus"] = task.select.fn(run, documents, labels, made["signatures"].data, chosen, compared.signatures, {}, None)
    found: dict[str, Any] = {name: state.data for name, state in made.items()}
    files = {
        f"{name}/{path.relative_to(folder)}": path.read_bytes()
        for name, folder in ((name, run.local(one.artifact)) for name, one in found.items())
        for path in sorted(folder.rglob("*.parquet"))
    }
    return {"files": files, "reused": {name for name, one in found.items() if one.reused}}


def test_another_threshold_measures_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives the same bytes as a run that knew no other."""
    before = _decided(tmp_path / "one", 0.9, 60)
    monkeypatch.setattr(minhash, "signatures", None)  # called, they would fail
    monkeypatch.setattr(perplexity, "perplexity_labels", None)
    after = _decided(tmp_path / "one", 0.3, 80)
    monkeypatch.undo()
    assert before["reused"] == set() and after["reused"] == {"signatures", "language", "perplexity"}
    assert after["files"] == _decided(tmp_path / "fresh", 0.3, 80)["files"]
    changed = {name.partition("/")[0] for name in after["files"] if after["files"][name] != before["files"].get(name)}
    assert changed == {"duplicates", "buckets", "corpus"}
