"""The doors one after the other, as the flow calls them: on the samples, whose dirt is labelled, and on real pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from data.corpus.duplicates.dedup import find_duplicates
from data.corpus.duplicates.minhash import signatures
from data.corpus.extraction import extract_text
from data.corpus.language import language_labels, rough_gate
from data.corpus.lines import filter_lines
from data.corpus.perplexity import perplexity_labels, train_models
from data.corpus.quality import quality_labels
from data.corpus.reading.inputs import list_inputs
from data.corpus.reading.readers import ingest_file
from data.corpus.selection import select
from data.corpus.sensitive import sensitive_labels
from data.corpus.shard_work import run_filter, run_label
from data.corpus.truth import score_run
from data.corpus.url.gate import filter_urls
from data.corpus.url.repeats import find_repeats, url_keys
from data.document import Counts
from data.settings import (
    DedupSettings,
    ExtractionSettings,
    IngestSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SelectionSettings,
    SensitiveSettings,
    UrlSettings,
)
from data.shards import list_shards
from tests.data.corpus.helpers import REAL, SAMPLES, read_all

Inputs = Callable[[int], Mapping[str, Any]]


def clean(
    corpus: str | Path,
    out: Path,
    shard_documents: int = 5000,
    urls: UrlSettings | None = None,
    sensitive: SensitiveSettings | None = None,
) -> Counts:
    """Every stage over every shard; the counts of the last."""
    ingested = [
        ingest_file(source, out / "ingest" / f"{n:03d}", IngestSettings(shard_documents=shard_documents))
        for n, source in enumerate(list_inputs(corpus))
    ]
    shards = [path for folder in sorted((out / "ingest").iterdir()) for path in list_shards(folder / "documents")]
    expected = sum(counts.kept for counts in ingested)

    def filtered(name: str, function: Any, shards: list[Path], settings: Any, inputs: Inputs = lambda _: {}) -> list[Path]:
        nonlocal expected
        total = Counts()
        for n, shard in enumerate(shards):
            total += run_filter(function, shard, out / name, n, settings, inputs(n))
        total.check()
        assert total.documents_in == expected
        expected = total.kept
        return list_shards(out / name / "documents")

    def labelled(name: str, function: Any, shards: list[Path], settings: Any, inputs: Inputs = lambda _: {}) -> list[Path]:
        for n, shard in enumerate(shards):
            run_label(function, shard, out / name, n, settings, inputs(n))
        return list_shards(out / name / "labels")

    urls, language = urls or UrlSettings(), LanguageSettings()
    find_repeats(labelled("keys", url_keys, shards, urls), out / "repeats")
    repeats = list_shards(out / "repeats")
    shards = filtered("urls", filter_urls, shards, urls, lambda n: {"repeats": repeats[n]})
    shards = filtered("rough", rough_gate, shards, language)
    extracted = filtered("extraction", extract_text, shards, ExtractionSettings())
    labels = {"quality": labelled("quality", quality_labels, extracted, QualitySettings())}
    shards = filtered("lines", filter_lines, extracted, LineSettings())
    labels["lines"] = list_shards(out / "lines" / "labels")
    labels["language"] = labelled("language", language_labels, shards, language)
    signed = labelled("signatures", signatures, shards, DedupSettings())
    find_duplicates(signed, out / "duplicates", DedupSettings(), shards)
    labels["duplicates"] = list_shards(out / "duplicates" / "labels")
    perplexity = PerplexitySettings()
    train_models(out / "models", perplexity)
    models = {"models": out / "models"}
    labels["perplexity"] = labelled(
        "perplexity", perplexity_labels, shards, perplexity, lambda n: models | {"labels": labels["language"][n]}
    )
    labels["sensitive"] = labelled("sensitive", sensitive_labels, shards, sensitive or SensitiveSettings())
    counts = select(shards, labels, out / "corpus", SelectionSettings()).counts
    counts.check()
    assert counts.documents_in == expected
    return counts


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (SAMPLES / "crawl").exists():
        pytest.skip("no samples")
    out = tmp_path_factory.mktemp("samples")
    _clean_samples(out, 5000)
    return out


def _clean_samples(out: Path, shard_documents: int) -> Counts:
    words = ["casino", "jackpot", "poker", "xxx"]
    urls = UrlSettings(blocked_hosts_file=str(SAMPLES / "blocked_hosts.txt"), blocked_words=words)
    sensitive = SensitiveSettings(terms_file=str(SAMPLES / "sensitive_terms.txt"))
    return clean(str(SAMPLES / "crawl" / "*.warc.gz"), out, shard_documents, urls, sensitive)


def test_samples_are_cleaned(sample_run: Path) -> None:
    dropped = sample_run.rglob("dropped/part-*.parquet")
    score = score_run(SAMPLES / "crawl_truth.jsonl", list_shards(sample_run / "corpus" / "documents"), dropped)
    assert score.unaccounted == 0
    assert score.cleaning_precision is not None
    assert score.cleaning_precision >= 0.97, score.wrongly_dropped
    assert score.cleaning_recall is not None
    assert score.cleaning_recall >= 0.97, score.wrongly_kept
    assert score.redaction_recall == 1.0
    assert score.chrome_removed is not None
    assert score.chrome_removed >= 0.97


@pytest.mark.slow
def test_the_same_bytes_whatever_the_shards(sample_run: Path, tmp_path: Path) -> None:
    _clean_samples(tmp_path, 37)
    for kind in ("documents", "dropped"):
        for shard in list_shards(sample_run / "corpus" / kind):
            assert shard.read_bytes() == (tmp_path / "corpus" / kind / shard.name).read_bytes()


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/real")
def test_a_small_real_crawl(tmp_path: Path) -> None:
    counts = clean(REAL / "warc_crawl", tmp_path)
    assert counts.kept >= 0.8 * counts.documents_in
    assert all(row["lang"] == "en" for row in read_all(tmp_path / "corpus" / "documents"))


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/real")
def test_real_pages(tmp_path: Path) -> None:
    clean(REAL / "pages.warc.gz", tmp_path)
    english = [row for row in read_all(tmp_path / "corpus" / "documents") if row["lang"] == "en"]
    lost = [row for row in read_all(tmp_path / "corpus" / "dropped") if row["lang"] in ("en", "zh")]
    assert len(english) >= 75
    assert len(lost) <= 8, [(row["url"], row["reason"], row["value"]) for row in lost]
