"""Our filters one after another over pages and their texts, on one core; seconds of the processor by stage, as JSON.

The process is prepared as those are that do a run's work (tasks/worker_processes.py): forks of one that has made the tables that
all need, and whose collector of garbage leaves alone what was imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.corpus import language, lines, perplexity, quality, selection, sensitive
from data.corpus.duplicates import dedup, minhash
from data.corpus.url import gate
from data.document import Decided
from data.settings import (
    DedupSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SelectionSettings,
    SensitiveSettings,
    UrlSettings,
)
from data.shards import read_shard, write_shard


def main(pages_shard: Path, documents_shard: Path, out: Path) -> None:
    import_module("tasks.worker_tables")  # behind all that is imported, as there
    pages, documents = read_shard(pages_shard), read_shard(documents_shard)
    perplexity.train_models(out / "models", PerplexitySettings())
    _all(pages.slice(0, 20), documents.slice(0, 20), out / "warm")  # models load, tables fill
    lines._is_known.cache_clear()
    seconds = _all(pages, documents, out / "measured")
    print(json.dumps({"stages": seconds, "seconds": sum(seconds.values()), "pages": len(pages)}))


def _all(pages: pa.Table, documents: pa.Table, out: Path) -> dict[str, float]:
    seconds: dict[str, float] = {}
    labels: dict[str, Path] = {}

    def stage(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = work()
        seconds[name] = time.process_time() - start
        table = found.labels if isinstance(found, Decided) else found
        if isinstance(table, pa.Table):
            labels[name] = out / f"{name}.parquet"
            write_shard(labels[name], table)
        return found

    models = out.parent / "models"
    languages = LanguageSettings(languages=["en", "zh", "de", "fr", "it", "es", "pl"])  # nothing goes: all is measured
    stage("urls", lambda: gate.filter_urls(pages, UrlSettings()))
    stage("rough language", lambda: language.rough_gate(pages, languages))
    stage("quality", lambda: quality.quality_labels(documents, QualitySettings()))
    documents = stage("lines", lambda: lines.filter_lines(documents, LineSettings())).kept
    stage("language", lambda: language.language_labels(documents, languages))
    settings = PerplexitySettings()
    beside = labels["language"]
    stage("perplexity", lambda: perplexity.perplexity_labels(documents, settings, models=models, labels=beside))
    stage("sensitive", lambda: sensitive.sensitive_labels(documents, SensitiveSettings()))
    signatures = stage("signatures", lambda: minhash.signatures(documents, DedupSettings()))
    write_shard(out / "signatures" / "part-00000.parquet", signatures)
    write_shard(out / "documents.parquet", documents)
    del labels["signatures"]

    def select() -> None:
        dedup.find_duplicates([out / "signatures" / "part-00000.parquet"], out / "clusters", DedupSettings(), [out / "documents.parquet"])
        given = {name: [path] for name, path in labels.items()} | {"duplicates": [out / "clusters" / "labels" / "part-00000.parquet"]}
        rules = [rule for rule in SelectionSettings().rules if rule.max_mads is None]
        selection.select([out / "documents.parquet"], given, out / "corpus", SelectionSettings(rules=rules))

    stage("selection", select)
    return seconds


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
