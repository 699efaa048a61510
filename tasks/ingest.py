"""The task that reads the crawl: input files, or parts of big ones, mapped over the workers."""

from __future__ import annotations

import dataclasses
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.corpus.reading import hub, inputs, readers
from data.places import link_file
from data.settings import IngestSettings
from data.shards import list_shards, shard_name
from tasks.shards import map_shards
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Files, Result

VERSION = 6  # raised by hand when the stage gives another result for the same settings and inputs


@task(task_run_name="ingest", cache_policy=NO_CACHE)
def ingest(run: Run, corpus: list[str], settings: IngestSettings) -> State[Made]:
    """Archives and files -> shards of pages; what cannot be read is dropped with its reason."""

    def build(draft: Draft) -> Result:
        sources = _sources(corpus, settings.split_megabytes << 20)
        work = partial(readers.ingest_part, settings=settings)
        # Another split is other parts: those of a killed attempt must not be taken for them.
        parts = draft.work / f"split-{settings.split_megabytes}"
        map_shards("ingest", work, sources, parts / "files", parts / "done", run.workers)
        folders = [parts / "files" / f"{number:05d}" for number in range(len(sources))]
        counts = readers.join_parts(sources, folders, settings)
        readers.check_kept(counts, folders)
        for kind in ("documents", "dropped"):
            shards = [shard for folder in folders for shard in list_shards(folder / kind)]
            (draft.out / kind).mkdir(parents=True)
            for index, shard in enumerate(shards):
                link_file(shard, draft.out / kind / shard_name(index))
        counts.check()
        return Result(dataclasses.asdict(counts) | {"dropped": dict(sorted(counts.dropped.items()))}, {})

    crawl = {f"crawl_{number}": _fingerprinted(entry) for number, entry in enumerate(corpus)}
    return make(run, "ingest", VERSION, settings, crawl, build)


def _fingerprinted(entry: str) -> Files:
    """What an entry of the corpus is known by: the content of its files, or a hub dataset's commit."""
    inputs.refuse_secrets(entry)
    dataset = hub.parse(entry)
    if dataset is None:
        return Files.of(entry)
    content = Files.of(dataset.path).fingerprint if dataset.is_local else hub.revision_of(dataset)
    return Files(path=entry, fingerprint=f"{content}/{dataset.name}/{dataset.split}")


def _sources(corpus: list[str], split_bytes: int) -> list[inputs.InputFile]:
    """Input files of all entries. A record's `source` is unique: of several entries each puts its own name in front."""
    if len(corpus) == 1:
        return inputs.list_inputs(corpus[0], split_bytes)
    found = []
    for number, entry in enumerate(corpus):
        for source in inputs.list_inputs(entry, split_bytes):
            front = f"{number}-{inputs.local_name(entry)}"
            names = tuple(f"{front}/{name}" for name in source.names)
            found.append(dataclasses.replace(source, name=f"{front}/{source.name}", names=names))
    return found
