"""Our cleaning as a process of its own, by the pipeline's own tasks (`prefect`) or by the same functions in a bare pool (`plain`).

The filters are datatrove's: Gopher, C4 and FineWeb with English thresholds for every page, no URL or language gate.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "prefect":
    from flows import temporary_server

    temporary_server.begin_for_command()  # beside the imports, as the pipeline's own commands do

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from data.corpus import extraction, lines, quality, selection
from data.corpus.duplicates import dedup, minhash
from data.corpus.reading import inputs, readers
from data.corpus.shard_work import run_filter, run_label
from data.settings import (
    DedupSettings,
    ExtractionSettings,
    IngestSettings,
    LineSettings,
    QualitySettings,
    Rule,
    SelectionSettings,
)
from data.shards import list_shards

Timed = tuple[float, float, dict[str, Any]]  # when the first stage began, when the last ended, seconds and counts of each
_C4 = [
    Rule(reason="curly_bracket", label="curly_brackets", max=0, source="C4"),
    Rule(reason="too_few_sentences", label="sentences", min=5, source="C4"),
]


def selection_settings() -> SelectionSettings:
    rules = [rule for rule in SelectionSettings().rules if rule.label in quality.QUALITY_LABELS.names and rule.languages != ["zh"]]
    return SelectionSettings(rules=[*(rule.model_copy(update={"languages": None}) for rule in rules), *_C4], personal_data="keep")


def main(way: str, archives: str, out: Path, workers: int, engine: str) -> None:
    """Prints its seconds before the first stage (`start`, the imports of data/ left out), in the stages, and those of each."""
    begun = time.perf_counter()
    run = {"prefect": by_prefect, "plain": plainly}[way]
    ready, ended, stages = run(archives, out, workers, ExtractionSettings.model_validate({"engine": engine}))
    print(json.dumps({"start": ready - begun, "seconds": ended - ready, "stages": stages, "not waited for": _of_forks()}))


def _of_forks() -> float:
    """Seconds of processors of the server that worker processes are forked from, and of them; by now they have ended."""
    servers = [child.cpu_times() for child in psutil.Process().children() if "multiprocessing.forkserver" in " ".join(child.cmdline())]
    return sum(spent.user + spent.system + spent.children_user + spent.children_system for spent in servers)


def by_prefect(archives: str, out: Path, workers: int, extracting: ExtractionSettings) -> Timed:
    from prefect import flow

    from flows import local
    from flows.recipe import Runner
    from tasks import corpus as task
    from tasks.ingest import ingest
    from tasks.stage import Made, Run

    run = Run(store=str(out), workers=workers)
    made: dict[str, Made] = {}

    runner = Runner(kind="processes", workers=workers)
    seen: list[float] = []

    @flow(name="cleaning")
    def cleaning() -> None:
        seen.append(time.perf_counter())
        with local.workers(runner):
            stages()

    def stages() -> None:
        made["ingest"] = ingest(run, [archives], IngestSettings()).result()
        made["extraction"] = task.extract(run, made["ingest"], extracting).result()
        made["quality"] = task.label_quality(run, made["extraction"], QualitySettings()).result()
        made["lines"] = task.clean_lines(run, made["extraction"], LineSettings()).result()
        made["signatures"] = task.sign(run, made["lines"], DedupSettings().signatures).result()
        made["duplicates"] = task.label_duplicates(run, made["lines"], made["signatures"], DedupSettings()).result()
        labels = {name: made[name] for name in ("quality", "lines", "duplicates")}
        made["corpus"] = task.select(run, made["lines"], labels, made["signatures"], selection_settings(), DedupSettings().signatures, {}, None).result()

    local.begin(runner)
    local.ensure_server()
    cleaning()
    return seen[0], time.perf_counter(), {name: {"seconds": stage.seconds, **stage.counts} for name, stage in made.items()}


def plainly(archives: str, out: Path, workers: int, extracting: ExtractionSettings) -> Timed:
    ready = time.perf_counter()
    seconds: dict[str, Any] = {}

    def mapped(name: str, work: Callable[..., Any], units: list[Any], pool: ProcessPoolExecutor) -> None:
        start = time.perf_counter()
        list(pool.map(work, units, [out / name] * len(units), range(len(units))))
        seconds[name] = {"seconds": time.perf_counter() - start}

    with ProcessPoolExecutor(workers) as pool:
        mapped("ingest", _ingest, inputs.list_inputs(archives), pool)
        pages = sorted((out / "ingest").glob("*/documents/part-*.parquet"))
        mapped("extraction", partial(_work, run_filter, extraction.extract_text, extracting), pages, pool)
        documents = list_shards(out / "extraction" / "documents")
        mapped("quality", partial(_work, run_label, quality.quality_labels, QualitySettings()), documents, pool)
        mapped("lines", partial(_work, run_filter, lines.filter_lines, LineSettings()), documents, pool)
        cleaned = list_shards(out / "lines" / "documents")
        mapped("signatures", partial(_work, run_label, minhash.signatures, DedupSettings()), cleaned, pool)
    start = time.perf_counter()
    dedup.find_duplicates(list_shards(out / "signatures" / "labels"), out / "clusters", DedupSettings(), cleaned)
    labels = {name: list_shards(out / name / "labels") for name in ("quality", "lines", "clusters")}
    selection.select(cleaned, labels, out / "corpus", selection_settings())
    ended = time.perf_counter()
    return ready, ended, {**seconds, "corpus": {"seconds": ended - start}}


def _ingest(source: inputs.InputFile, out: Path, index: int) -> None:
    readers.ingest_file(source, out / f"{index:05d}", IngestSettings())


def _work(door: Callable[..., Any], function: Any, settings: Any, shard: Path, out: Path, index: int) -> None:
    door(function, shard, out, index, settings)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
