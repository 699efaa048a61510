"""Tasks of the corpus half: each maps one function of data/corpus over shards and publishes what comes out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    selection,
    sensitive,
    truth,
    url_repeats,
    urls,
)
from data.corpus.shard_work import Door, run_filter, run_label
from data.document import Counts
from data.settings import (
    DedupSettings,
    ExtractionSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SelectionSettings,
    SensitiveSettings,
    Settings,
    UrlSettings,
)
from data.shards import list_shards
from tasks.artifacts import Draft, Files, Result
from tasks.shards import map_shards
from tasks.stage import Made, Run, make

# Raised by hand when a stage gives another result for the same settings and inputs.
VERSIONS = {
    "urls": 2, "rough_language": 1, "extraction": 1, "language": 1, "quality": 1, "lines": 1,
    "duplicates": 2, "perplexity": 1, "sensitive": 1, "corpus": 2,
}  # fmt: skip
KINDS_OF_FILES = ("documents", "dropped", "labels")


@task(task_run_name="urls", cache_policy=NO_CACHE)
def filter_urls(run: Run, pages: Made, settings: UrlSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, EachShard]:
        keys = partial(_shard, door=run_label, function=url_repeats.url_keys, settings=settings, inputs={})
        map_shards("url keys", keys, shards, work / "keys", work / "keys-done", run.workers)
        url_repeats.find_repeats(list_shards(work / "keys" / "labels"), work / "repeats")
        return {"repeats": EachShard(work / "repeats")}

    return _mapped(run, "urls", pages, run_filter, urls.filter_urls, settings, prepare=prepare)


@task(task_run_name="rough language", cache_policy=NO_CACHE)
def check_language(run: Run, pages: Made, settings: LanguageSettings) -> State[Made]:
    return _mapped(run, "rough_language", pages, run_filter, language.rough_gate, settings)


@task(task_run_name="extraction", cache_policy=NO_CACHE)
def extract(run: Run, pages: Made, settings: ExtractionSettings) -> State[Made]:
    return _mapped(run, "extraction", pages, run_filter, extraction.extract_text, settings)


@task(task_run_name="lines", cache_policy=NO_CACHE)
def clean_lines(run: Run, documents: Made, settings: LineSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        host_lines.find_host_lines(shards, work / "host_lines.parquet", settings)
        return {"host_lines": work / "host_lines.parquet"}

    return _mapped(run, "lines", documents, run_filter, lines.filter_lines, settings, prepare=prepare)


@task(task_run_name="language", cache_policy=NO_CACHE)
def label_language(run: Run, documents: Made, settings: LanguageSettings) -> State[Made]:
    return _mapped(run, "language", documents, run_label, language.language_labels, settings)


@task(task_run_name="quality", cache_policy=NO_CACHE)
def label_quality(run: Run, documents: Made, settings: QualitySettings) -> State[Made]:
    return _mapped(run, "quality", documents, run_label, quality.quality_labels, settings)


@task(task_run_name="duplicates", cache_policy=NO_CACHE)
def label_duplicates(run: Run, documents: Made, settings: DedupSettings) -> State[Made]:
    """Signatures shard by shard, then clusters over all of them; the signatures stay, for the corpus' index."""

    def finish(parts: Path, shards: list[Path], out: Path) -> Counts:
        _link(parts / "labels", out / "signatures")
        return dedup.find_duplicates(list_shards(out / "signatures"), out, settings, shards)

    return _mapped(run, "duplicates", documents, run_label, dedup.signatures, settings, finish=finish)


@task(task_run_name="perplexity", cache_policy=NO_CACHE)
def label_perplexity(run: Run, documents: Made, languages: Made, settings: PerplexitySettings) -> State[Made]:
    """Train the language models on the trusted texts, then measure every document by its language's."""

    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        perplexity.train_models(work / "models", settings)
        return {"models": work / "models"}

    return _mapped(
        run, "perplexity", documents, run_label, perplexity.perplexity_labels, settings, prepare=prepare, beside={"labels": languages}
    )


@task(task_run_name="sensitive", cache_policy=NO_CACHE)
def label_sensitive(run: Run, documents: Made, settings: SensitiveSettings) -> State[Made]:
    return _mapped(run, "sensitive", documents, run_label, sensitive.sensitive_labels, settings)


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
        folders = {name: run.local(made.artifact) for name, made in labels.items()}
        measured = {name: list_shards(folder / "labels") for name, folder in folders.items()}
        selected = selection.select(shards, measured, draft.out, settings, list_shards(folders["duplicates"] / "signatures"))
        metrics: dict[str, Any] = {"texts_redacted": selected.redacted, "texts_cut": selected.cut}
        if truth_file:
            dropped = [shard for made in earlier.values() for shard in list_shards(run.local(made.artifact) / "dropped")]
            dropped += list_shards(draft.out / "dropped")
            metrics |= truth.score_run(Path(truth_file), list_shards(draft.out / "documents"), dropped).as_dict()
        return _result(selected.counts, metrics)

    return make(run, "corpus", VERSIONS["corpus"], settings, inputs, build)


# --- mapping a function over shards -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class EachShard:
    """An input of which each shard gets its own part: the file of the same name in `folder`."""

    folder: Path


Prepare = Callable[[list[Path], Path], Mapping[str, Any]]  # (shards, work): sees all shards first; more inputs by name
Finish = Callable[[Path, list[Path], Path], Counts]  # (parts, shards, out): sees all that was written; fills `out`


def _mapped(
    run: Run,
    stage: str,
    documents: Made,
    door: Door,
    function: Callable[..., Any],
    settings: Settings,
    *,
    prepare: Prepare | None = None,
    finish: Finish | None = None,
    beside: Mapping[str, Made] | None = None,
    files: Mapping[str, Files] | None = None,
) -> State[Made]:
    """Map `function` over the shards of `documents` through its door (run_filter or run_label), and publish what came out.

    `beside` are label artifacts, whose shard of the same name the function reads along with each shard. `files` are inputs from outside
    that `prepare` or the settings name.
    """
    beside = beside or {}

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        inputs = dict(prepare(shards, draft.work)) if prepare else {}
        inputs |= {name: EachShard(run.local(made.artifact) / "labels") for name, made in beside.items()}
        work = partial(_shard, door=door, function=function, settings=settings, inputs=inputs)
        parts = draft.work / "parts"
        counts = map_shards(stage, work, shards, parts, draft.work / "done", run.workers)
        if finish:
            return _result(finish(parts, shards, draft.out))
        for kind in KINDS_OF_FILES:
            if (parts / kind).exists():
                _link(parts / kind, draft.out / kind)
        return _result(counts)

    return make(run, stage, VERSIONS[stage], settings, {"documents": documents, **beside, **(files or {})}, build)


def _shard(
    shard: Path, out: Path, index: int, door: Door, function: Callable[..., Any], settings: Settings, inputs: Mapping[str, Any]
) -> Counts:
    own = {name: given.folder / shard.name if isinstance(given, EachShard) else given for name, given in inputs.items()}
    return door(function, shard, out, index, settings, own)


def _link(source: Path, target: Path) -> None:
    """The folder `source` also as `target`. Not moved: a stage killed here finds its finished shards again."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:  # a file system without links
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link)


def _result(counts: Counts, metrics: Mapping[str, Any] | None = None) -> Result:
    counts.check()
    return Result({"documents_in": counts.documents_in, "kept": counts.kept, "dropped": dict(sorted(counts.dropped.items()))}, metrics or {})
