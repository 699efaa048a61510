"""Tasks of the corpus half: each maps one function of data/corpus over shards and publishes what comes out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.corpus import (
    dedup,
    extraction,
    host_lines,
    language,
    lines,
    perplexity,
    quality,
    readers,
    selection,
    sensitive,
    truth,
    urls,
)
from data.corpus.shard_work import Filter, Label, run_filter, run_label
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
    Settings,
    UrlSettings,
)
from data.shards import list_shards, shard_name
from tasks.artifacts import Draft, Files, Result
from tasks.shards import map_shards
from tasks.stage import Made, Run, make

# Raised by hand when a stage gives another result for the same settings and inputs.
VERSIONS = {
    "ingest": 1, "urls": 1, "rough_language": 1, "extraction": 1, "language": 1, "quality": 1, "lines": 1,
    "duplicates": 1, "perplexity": 1, "sensitive": 1, "corpus": 1,
}  # fmt: skip
KINDS_OF_FILES = ("documents", "dropped", "labels")


@task(task_run_name="ingest", cache_policy=NO_CACHE)
def ingest(run: Run, corpus: list[str], settings: IngestSettings) -> State[Made]:
    """Archives and files -> shards of pages; what cannot be read is dropped with its reason."""

    def build(draft: Draft) -> Result:
        sources = _sources(corpus)
        work = partial(_ingest_one, settings=settings)
        counts = map_shards("ingest", work, sources, draft.work / "files", draft.work / "done", run.workers)
        for kind in ("documents", "dropped"):
            parts = [part for number in range(len(sources)) for part in list_shards(draft.work / "files" / f"{number:05d}" / kind)]
            for index, part in enumerate(parts):
                _move(part, draft.out / kind / shard_name(index))
        return _result(counts)

    crawl = {f"crawl_{number}": Files.of(path) for number, path in enumerate(corpus)}
    return make(run, "ingest", VERSIONS["ingest"], settings, crawl, build)


def _sources(corpus: list[str]) -> list[readers.InputFile]:
    """Input files of all paths. A record's `source` is unique: of several paths each puts its own name in front."""
    if len(corpus) == 1:
        return readers.list_inputs(corpus[0])
    found = []
    for number, path in enumerate(corpus):
        for source in readers.list_inputs(path):
            front = f"{number}-{Path(path).name}"
            names = tuple(f"{front}/{name}" for name in source.names)
            found.append(dataclasses.replace(source, name=f"{front}/{source.name}", names=names))
    return found


def _ingest_one(source: readers.InputFile, out: Path, index: int, settings: IngestSettings) -> Counts:
    return readers.ingest_file(source, out / f"{index:05d}", settings)


@task(task_run_name="urls", cache_policy=NO_CACHE)
def filter_urls(run: Run, pages: Made, settings: UrlSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        urls.find_repeats(shards, work / "repeats.parquet", settings)
        return {"repeats": work / "repeats.parquet"}

    return _filter(run, "urls", pages, urls.filter_urls, settings, prepare)


@task(task_run_name="rough language", cache_policy=NO_CACHE)
def check_language(run: Run, pages: Made, settings: LanguageSettings) -> State[Made]:
    return _filter(run, "rough_language", pages, language.rough_gate, settings)


@task(task_run_name="extraction", cache_policy=NO_CACHE)
def extract(run: Run, pages: Made, settings: ExtractionSettings) -> State[Made]:
    return _filter(run, "extraction", pages, extraction.extract_text, settings)


@task(task_run_name="lines", cache_policy=NO_CACHE)
def clean_lines(run: Run, documents: Made, settings: LineSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        host_lines.find_host_lines(shards, work / "host_lines.parquet", settings)
        return {"host_lines": work / "host_lines.parquet"}

    return _filter(run, "lines", documents, lines.filter_lines, settings, prepare)


@task(task_run_name="language", cache_policy=NO_CACHE)
def label_language(run: Run, documents: Made, settings: LanguageSettings) -> State[Made]:
    return _label(run, "language", documents, language.language_labels, settings)


@task(task_run_name="quality", cache_policy=NO_CACHE)
def label_quality(run: Run, documents: Made, settings: QualitySettings) -> State[Made]:
    return _label(run, "quality", documents, quality.quality_labels, settings)


@task(task_run_name="duplicates", cache_policy=NO_CACHE)
def label_duplicates(run: Run, documents: Made, settings: DedupSettings) -> State[Made]:
    """Signatures shard by shard, then clusters over all of them."""

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        work = partial(_label_shard, function=dedup.signatures, settings=settings, inputs={}, beside={})
        map_shards("signatures", work, shards, draft.work / "signatures", draft.work / "done", run.workers)
        signatures = list_shards(draft.work / "signatures" / "labels")
        return _result(dedup.find_duplicates(signatures, draft.out, settings, shards))

    return make(run, "duplicates", VERSIONS["duplicates"], settings, {"documents": documents}, build)


@task(task_run_name="perplexity", cache_policy=NO_CACHE)
def label_perplexity(run: Run, documents: Made, languages: Made, settings: PerplexitySettings) -> State[Made]:
    """Train the language models on the trusted texts, then measure every document by its language's."""

    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        perplexity.train_models(work / "models", settings)
        return {"models": work / "models"}

    return _label(run, "perplexity", documents, perplexity.perplexity_labels, settings, prepare, {"labels": languages})


@task(task_run_name="sensitive", cache_policy=NO_CACHE)
def label_sensitive(run: Run, documents: Made, settings: SensitiveSettings) -> State[Made]:
    return _label(run, "sensitive", documents, sensitive.sensitive_labels, settings)


@task(task_run_name="corpus", cache_policy=NO_CACHE)
def select(
    run: Run,
    documents: Made,
    labels: Mapping[str, Made],
    settings: SelectionSettings,
    earlier: Mapping[str, Made],
    truth_file: str | None,
) -> State[Made]:
    """Decide over all labels. Where the crawl's dirt is labelled, score the cleaning: `earlier` names what dropped before."""
    inputs: dict[str, Made | Files] = {"documents": documents, **{f"labels_{name}": made for name, made in labels.items()}}
    if truth_file:
        inputs |= {f"dropped_{name}": made for name, made in earlier.items()}
        inputs["truth"] = Files.of(truth_file)

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        measured = {name: list_shards(run.local(made.artifact) / "labels") for name, made in labels.items()}
        counts = selection.select(shards, measured, draft.out, settings)
        metrics: dict[str, Any] = {}
        if truth_file:
            dropped = [shard for made in earlier.values() for shard in list_shards(run.local(made.artifact) / "dropped")]
            dropped += list_shards(draft.out / "dropped")
            metrics = truth.score_run(Path(truth_file), list_shards(draft.out / "documents"), dropped).as_dict()
        return _result(counts, metrics)

    return make(run, "corpus", VERSIONS["corpus"], settings, inputs, build)


# --- the two ways of mapping a function over shards -------------------------------------------------------------------

Prepare = Any  # Callable[[list[Path], Path], dict[str, Path]]: what needs to see all shards first


def _filter(
    run: Run, stage: str, documents: Made, function: Filter, settings: Settings, prepare: Prepare = None
) -> State[Made]:
    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        inputs = prepare(shards, draft.work) if prepare else {}
        work = partial(_filter_shard, function=function, settings=settings, inputs=inputs)
        counts = map_shards(stage, work, shards, draft.work / "parts", draft.work / "done", run.workers)
        _move_all(draft.work / "parts", draft.out)
        return _result(counts)

    return make(run, stage, VERSIONS[stage], settings, {"documents": documents}, build)


def _label(
    run: Run,
    stage: str,
    documents: Made,
    function: Label,
    settings: Settings,
    prepare: Prepare = None,
    beside: Mapping[str, Made] | None = None,
) -> State[Made]:
    """`beside` are label artifacts whose shard of the same name the function reads along with each shard."""
    beside = beside or {}

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        inputs = prepare(shards, draft.work) if prepare else {}
        folders = {name: run.local(made.artifact) / "labels" for name, made in beside.items()}
        work = partial(_label_shard, function=function, settings=settings, inputs=inputs, beside=folders)
        counts = map_shards(stage, work, shards, draft.work / "parts", draft.work / "done", run.workers)
        _move_all(draft.work / "parts", draft.out)
        return _result(counts)

    return make(run, stage, VERSIONS[stage], settings, {"documents": documents, **beside}, build)


def _filter_shard(shard: Path, out: Path, index: int, function: Filter, settings: Settings, inputs: Mapping[str, Path]) -> Counts:
    return run_filter(function, shard, out, index, settings, inputs)


def _label_shard(
    shard: Path, out: Path, index: int, function: Label, settings: Settings, inputs: Mapping[str, Path], beside: Mapping[str, Path]
) -> Counts:
    own = {name: folder / shard.name for name, folder in beside.items()}
    return run_label(function, shard, out, index, settings, {**inputs, **own})


def _move_all(parts: Path, out: Path) -> None:
    for kind in KINDS_OF_FILES:
        if (parts / kind).exists():
            _move(parts / kind, out / kind)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)


def _result(counts: Counts, metrics: Mapping[str, Any] | None = None) -> Result:
    counts.check()
    return Result({"documents_in": counts.documents_in, "kept": counts.kept, "dropped": dict(sorted(counts.dropped.items()))}, metrics or {})
