"""Tasks of the corpus half: each maps one function of data/corpus over shards and publishes what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.corpus import (
    buckets,
    card,
    decontamination,
    extraction,
    host_lines,
    language,
    lines,
    perplexity,
    quality,
    selection,
    sensitive,
    truth,
)
from data.corpus.duplicates import dedup, index, minhash
from data.corpus.duplicates.earlier import Index, label_earlier
from data.corpus.learned import classifiers
from data.corpus.shard_work import run_filter, run_label
from data.corpus.url import gate, repeats
from data.document import Counts
from data.settings import (
    BucketSettings,
    CardSettings,
    ClassifierSettings,
    DecontaminationSettings,
    DedupSettings,
    ExtractionSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SelectionSettings,
    SensitiveSettings,
    SignatureSettings,
    UrlSettings,
)
from data.shards import list_shards
from tasks import show
from tasks.groups import EachShard, ShardWork, work_on_shard
from tasks.mapping import mapped, result_of
from tasks.names import over_shards
from tasks.shards import map_shards
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Files, Result

# Raised by hand when a stage gives another result for the same settings and inputs.
VERSIONS = {
    "urls": 3, "rough_language": 3, "extraction": 2, "language": 3, "quality": 2, "lines": 2,
    "signatures": 1, "duplicates": 6, "perplexity": 3, "buckets": 1, "classifiers": 1, "sensitive": 3, "decontamination": 2,
    "corpus": 5, "card": 2,
}  # fmt: skip


@task(task_run_name=over_shards("urls"), cache_policy=NO_CACHE)
def filter_urls(run: Run, pages: Made, settings: UrlSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, EachShard]:
        door = partial(run_label, columns=repeats.READ)  # not the pages
        keys = partial(work_on_shard, door=door, function=repeats.url_keys, settings=settings, inputs={})
        map_shards("url keys", keys, shards, work / "keys", work / "keys-done", run.workers)
        repeats.find_repeats(list_shards(work / "keys" / "labels"), work / "repeats")
        return {"repeats": EachShard(work / "repeats")}

    return mapped(run, "urls", VERSIONS["urls"], pages, run_filter, gate.filter_urls, settings, prepare=prepare)


@task(task_run_name=over_shards("rough language"), cache_policy=NO_CACHE)
def check_language(run: Run, pages: Made, settings: LanguageSettings) -> State[Made]:
    return mapped(run, "rough_language", VERSIONS["rough_language"], pages, run_filter, language.rough_gate, settings)


@task(task_run_name=over_shards("extraction"), cache_policy=NO_CACHE)
def extract(run: Run, pages: Made, settings: ExtractionSettings) -> State[Made]:
    return mapped(run, "extraction", VERSIONS["extraction"], pages, run_filter, extraction.extract_text, settings)


@task(task_run_name=over_shards("lines"), cache_policy=NO_CACHE)
def clean_lines(run: Run, documents: Made, settings: LineSettings) -> State[Made]:
    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        if not settings.host_repeats:
            return {}
        keys = partial(work_on_shard, door=run_label, function=host_lines.host_line_keys, settings=settings, inputs={})
        map_shards("lines of hosts", keys, shards, work / "keys", work / "keys-done", run.workers)
        host_lines.find_host_lines(list_shards(work / "keys" / "labels"), work / "host_lines.parquet", settings)
        return {"host_lines": work / "host_lines.parquet"}

    return mapped(run, "lines", VERSIONS["lines"], documents, run_filter, lines.filter_lines, settings, prepare=prepare)


@task(task_run_name=over_shards("language"), cache_policy=NO_CACHE)
def label_language(run: Run, documents: Made, settings: LanguageSettings) -> State[Made]:
    return mapped(run, "language", VERSIONS["language"], documents, run_label, language.language_labels, settings)


@task(task_run_name=over_shards("quality"), cache_policy=NO_CACHE)
def label_quality(run: Run, documents: Made, settings: QualitySettings) -> State[Made]:
    return mapped(run, "quality", VERSIONS["quality"], documents, run_label, quality.quality_labels, settings)


@task(task_run_name=over_shards("signatures"), cache_policy=NO_CACHE)
def sign(run: Run, documents: Made, settings: SignatureSettings) -> State[Made]:
    return mapped(run, "signatures", VERSIONS["signatures"], documents, run_label, minhash.signatures, settings)


@task(task_run_name=over_shards("duplicates"), cache_policy=NO_CACHE)
def label_duplicates(run: Run, documents: Made, signatures: Made, settings: DedupSettings) -> State[Made]:
    """From the signatures: candidates, their shingles shard by shard, clusters, copies in earlier corpora."""
    indexes = [shard for path in settings.earlier for shard in index.index_shards(path, settings.signatures)]  # a wrong one is refused before the work

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        signed = list_shards(run.local(signatures.artifact) / "labels")
        work = draft.work / "candidates"

        def on_each(function: ShardWork, documents: Sequence[Path], folder: Path) -> Counts:
            return map_shards("shingles of candidates", function, documents, folder, work / "done", run.workers)

        counts = dedup.find_duplicates(signed, draft.out, settings, shards, work, on_each)
        if indexes:
            earlier = draft.work / "earlier"
            label_earlier(signed, draft.out / "labels", Index.fetched(indexes, earlier), shards, earlier, settings)
        return result_of(counts)

    return make(run, "duplicates", VERSIONS["duplicates"], settings, {"documents": documents, "signatures": signatures}, build)


@task(task_run_name=over_shards("perplexity"), cache_policy=NO_CACHE)
def label_perplexity(
    run: Run, documents: Made, languages: Made, scores: Made | None, settings: PerplexitySettings, wanted: Sequence[str] = ("en", "zh")
) -> State[Made]:
    """Measure every document by its language's model (finished, trained on the trusted texts, or a causal one's `scores`).

    Raises ValueError where a person's models are of none of the languages `wanted`.
    """

    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        if settings.models:
            perplexity.check_languages(perplexity.find_models(Path(settings.models)), wanted, f"perplexity.models: {settings.models}")
            return {"models": Path(settings.models)}
        trained = perplexity.train_models(work / "models", settings)
        if settings.trusted:
            perplexity.check_languages(trained, wanted, f"perplexity.trusted: {settings.trusted}")
        return {"models": work / "models"}

    beside = {"labels": languages} | ({"scores": scores} if scores else {})
    function = perplexity.scored_labels if scores else perplexity.perplexity_labels
    return mapped(
        run, "perplexity", VERSIONS["perplexity"], documents, run_label, function, settings,
        prepare=None if scores else prepare, beside=beside,
    )  # fmt: skip


@task(task_run_name=over_shards("buckets"), cache_policy=NO_CACHE)
def label_buckets(run: Run, scores: Made, settings: BucketSettings) -> State[Made]:
    """Head, middle and tail of each language, by the scores of stage perplexity."""

    def build(draft: Draft) -> Result:
        return result_of(buckets.add_buckets(list_shards(run.local(scores.artifact) / "labels"), draft.out, settings))

    return make(run, "buckets", VERSIONS["buckets"], settings, {"perplexity": scores}, build)


@task(task_run_name=over_shards("classifiers"), cache_policy=NO_CACHE)
def classify(run: Run, documents: Made, settings: ClassifierSettings) -> State[Made]:
    return mapped(run, "classifiers", VERSIONS["classifiers"], documents, run_label, classifiers.classifier_labels, settings)


@task(task_run_name=over_shards("decontamination"), cache_policy=NO_CACHE)
def label_contamination(run: Run, documents: Made, asked: Mapping[str, str], settings: DecontaminationSettings) -> State[Made]:
    """Count the n-grams that each document shares with what the recipe's evaluation asks (`asked`: role -> path) and the other
    evaluation sets."""
    sets = [Path(path) for path in [*asked.values(), *settings.files]]

    def prepare(shards: list[Path], work: Path) -> dict[str, Path]:
        decontamination.write_index(decontamination.questions_of(sets, settings), work / "index.npz", settings)
        return {"index": work / "index.npz"}

    files = {role: Files.of(path) for role, path in asked.items()}
    return mapped(
        run, "decontamination", VERSIONS["decontamination"], documents, run_label, decontamination.contamination_labels, settings,
        prepare=prepare, files=files,
    )  # fmt: skip


@task(task_run_name=over_shards("sensitive"), cache_policy=NO_CACHE)
def label_sensitive(run: Run, documents: Made, settings: SensitiveSettings) -> State[Made]:
    return mapped(run, "sensitive", VERSIONS["sensitive"], documents, run_label, sensitive.sensitive_labels, settings)


@task(task_run_name=over_shards("card"), cache_policy=NO_CACHE)
def describe(run: Run, corpus: Made, gates: Mapping[str, Made], labels: Mapping[str, Made], settings: CardSettings) -> State[Made]:
    """The corpus card: what was kept and what was dropped, by the stages that dropped it, and how the labels are distributed."""

    def build(draft: Draft) -> Result:
        def shards(made: Made, kind: str) -> list[Path]:
            return list_shards(run.local(made.artifact) / kind)

        dropped = {name: shards(made, "dropped") for name, made in [*gates.items(), ("corpus", corpus)]}
        measured = {name: shards(made, "labels") for name, made in labels.items()}
        documents_in = gates["ingest"].counts["documents_in"]
        found = card.make_card(documents_in, shards(corpus, "documents"), dropped, measured, settings)
        card.write_card(found, draft.out)
        show.page("corpus-card", (draft.out / "card.md").read_text(encoding="utf-8"), "what was kept, what was dropped and why")
        return Result({}, {name: found[name] for name in ("kept", "characters", "hosts_in_all")})

    inputs = {"corpus": corpus, **{f"dropped_{name}": made for name, made in gates.items()}, **{f"labels_{name}": made for name, made in labels.items()}}
    return make(run, "card", VERSIONS["card"], settings, inputs, build)


@task(task_run_name=over_shards("corpus"), cache_policy=NO_CACHE)
def select(
    run: Run,
    documents: Made,
    labels: Mapping[str, Made],
    signatures: Made,
    settings: SelectionSettings,
    signed_by: SignatureSettings,
    earlier: Mapping[str, Made],
    truth_file: str | None,
) -> State[Made]:
    """Decide over all labels. Where the crawl's dirt is labelled, score the cleaning: `earlier` names what dropped before."""
    inputs: dict[str, Made | Files] = {"documents": documents, "signatures": signatures, **{f"labels_{name}": made for name, made in labels.items()}}
    if truth_file:
        inputs |= {f"dropped_{name}": made for name, made in earlier.items()}
        inputs["truth"] = Files.of(truth_file)

    def build(draft: Draft) -> Result:
        shards = list_shards(run.local(documents.artifact) / "documents")
        measured = {name: list_shards(run.local(made.artifact) / "labels") for name, made in labels.items()}
        signed = list_shards(run.local(signatures.artifact) / "labels")
        selected = selection.select(shards, measured, draft.out, settings, signed, index.comparison(signed_by))
        metrics: dict[str, Any] = {"texts_redacted": selected.redacted, "texts_cut": selected.cut}
        if truth_file:
            dropped = [shard for made in earlier.values() for shard in list_shards(run.local(made.artifact) / "dropped")]
            dropped += list_shards(draft.out / "dropped")
            metrics |= truth.score_run(Path(truth_file), list_shards(draft.out / "documents"), dropped).as_dict()
        return result_of(selected.counts, metrics)

    return make(run, "corpus", VERSIONS["corpus"], settings, inputs, build)
