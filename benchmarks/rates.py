"""What each stage of cleaning costs on real pages, and what a crawl of 100 TB would take at these rates.

Every stage runs in this process over ../shared/real/pages.warc.gz, all of whose languages are asked for, so that no page gets
off cheaply; counted are seconds of processors, its extraction child's among them. The crawl is taken to be like this file:
its compressed bytes scale to 100 TB. The steps that see the whole corpus are timed on synthetic keys and named apart.
"""

from __future__ import annotations

import resource
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.measuring import REAL, WORK, arguments, own_peak, publish
from benchmarks.texts import documents, write_documents
from data.corpus import extraction, language, lines, perplexity, quality, selection, sensitive
from data.corpus.duplicates import dedup, minhash
from data.corpus.reading import inputs, readers
from data.corpus.shard_work import run_filter, run_label
from data.corpus.url import blocks, gate, repeats
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
from data.shards import list_shards, shard_name, write_shard

_CRAWL_BYTES = 100e12
_LANGUAGES = ["en", "zh", "de", "fr", "it", "es", "pl"]
_SCANNED = 1_000_000  # synthetic keys of the steps that see the whole corpus
_BLOCKED = 500_000  # hosts of a long block list

Times = dict[str, float]


def processor_seconds() -> float:
    """Of this process and of its children, which end for it."""
    extraction.close_idle()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def clean(crawl: Path, out: Path, engine: str) -> tuple[Times, dict[str, int]]:
    """Processor seconds of each stage, and the documents that it got."""
    seconds: Times = {}
    got: dict[str, int] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        start = processor_seconds()
        result = work()
        seconds[name] = processor_seconds() - start
        return result

    def mapped(name: str, door: Any, function: Any, settings: Any, shards: list[Path], **inputs_of: Any) -> list[Path]:
        counts = step(name, lambda: [door(function, shard, out / name, n, settings, _own(inputs_of, n)) for n, shard in enumerate(shards)])
        got[name] = sum(count.documents_in for count in counts)
        return list_shards(out / name / ("documents" if door is run_filter else "labels"))

    pages = step("ingest", lambda: readers.ingest_file(inputs.list_inputs(crawl)[0], out / "ingest", IngestSettings()))
    got["ingest"] = pages.documents_in
    shards = list_shards(out / "ingest" / "documents")
    url, asked = UrlSettings(), LanguageSettings(languages=_LANGUAGES)
    repeats.find_repeats(mapped("url keys", partial(run_label, columns=repeats.READ), repeats.url_keys, url, shards), out / "repeats")
    shards = mapped("urls", run_filter, gate.filter_urls, url, shards, repeats=list_shards(out / "repeats"))
    shards = mapped("rough language", run_filter, language.rough_gate, asked, shards)
    shards = mapped("extraction", run_filter, extraction.extract_text, ExtractionSettings.model_validate({"engine": engine}), shards)
    mapped("quality", run_label, quality.quality_labels, QualitySettings(), shards)
    shards = mapped("lines", run_filter, lines.filter_lines, LineSettings(), shards)
    labels = mapped("language", run_label, language.language_labels, asked, shards)
    mapped("signatures", run_label, minhash.signatures, DedupSettings(), shards)
    perplexity.train_models(out / "models", PerplexitySettings())
    mapped("perplexity", run_label, perplexity.perplexity_labels, PerplexitySettings(), shards, models=out / "models", labels=labels)
    mapped("sensitive", run_label, sensitive.sensitive_labels, SensitiveSettings(), shards)
    return seconds, got


def _own(inputs_of: dict[str, Any], number: int) -> dict[str, Any]:
    return {name: value[number] if isinstance(value, list) else value for name, value in inputs_of.items()}


def url_repeat_rate(out: Path, rows: int) -> float:
    """Pages a second of `find_repeats`, a tenth of which repeat one, in several partitions."""
    random = np.random.default_rng(1)
    keys = random.integers(0, rows, rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    shards = []
    for number, part in enumerate(np.array_split(keys, max(1, rows // 5000))):
        columns = [part, *(random.integers(0, 1 << 62, len(part), dtype=np.uint64) for _ in range(4))]
        shards.append(out / "keys" / shard_name(number))
        write_shard(shards[-1], pa.table([pa.array([""] * len(part)), *columns], schema=repeats.KEYS_SCHEMA))
    start = processor_seconds()
    repeats.find_repeats(shards, out / "found", partition_rows=rows // 4)
    return rows / (processor_seconds() - start)


def block_list_rates(out: Path, hosts: int) -> dict[str, float]:
    """URLs a second that are held against a list of so many hosts, and against the bundled one; seconds to read the long one."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "hosts").write_text("".join(f"host{number}.example{number % 97}.com\n" for number in range(hosts)))
    urls = [f"http://www.host{number}.example.org/some/path/{number}.html?a=1" for number in range(100_000)]
    found: dict[str, float] = {}
    for name, settings in {"the bundled list": UrlSettings(), f"{hosts:,} hosts": UrlSettings(blocked_hosts_file=str(out / "hosts"))}.items():
        start = processor_seconds()
        listed = blocks.block_list(settings)
        read = processor_seconds()
        for url in urls:
            listed.match(url)
        found |= {f"URLs/s against {name}": len(urls) / (processor_seconds() - read), f"seconds to read {name}": read - start}
    return found


def corpus_rate(out: Path, count: int) -> dict[str, float]:
    """Documents a second of the clusters (candidates' shingles, which are mapped, left out) and of the selection, on synthetic ones."""
    shards = write_documents(out / "documents", documents(count, 100), 20_000)
    for index, shard in enumerate(shards):
        run_label(minhash.signatures, shard, out / "signatures", index, DedupSettings())
    signed = list_shards(out / "signatures" / "labels")
    mapped = 0.0

    def over_shards(work: Callable[[Path, Path, int], Any], of: Sequence[Path], folder: Path) -> None:
        nonlocal mapped
        start = processor_seconds()
        for index, shard in enumerate(of):
            work(shard, folder, index)
        mapped = processor_seconds() - start

    times = [processor_seconds()]
    dedup.find_duplicates(signed, out / "clusters", DedupSettings(), shards, out / "work", over_shards)
    times.append(processor_seconds())
    chosen = SelectionSettings(rules=[], prefer=None, personal_data="keep")
    selection.select(shards, {"duplicates": list_shards(out / "clusters" / "labels")}, out / "corpus", chosen, signed)
    times.append(processor_seconds())
    return {"clusters": count / (times[1] - times[0] - mapped), "selection": count / (times[2] - times[1])}


def rows_of(seconds: Times, got: dict[str, int], scale: float) -> Iterator[dict[str, Any]]:
    for name, spent in seconds.items():
        yield {
            "stage": name, "documents": got[name], "documents/s a core": got[name] / spent if spent else 0.0,
            "ms a crawled page": 1000 * spent / got["ingest"], "core hours at 100 TB": spent * scale / 3600,
        }  # fmt: skip


def main(given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=3)
    parser.add_argument("--engine", default="combined", help="of extraction (default: combined)")
    options = parser.parse_args(given)
    crawl, out = REAL / "pages.warc.gz", WORK / "rates"
    if options.quick:
        crawl, options.repeats = REAL / "warc_crawl" / "sample-0000.warc.gz", 1
    runs = []
    got: dict[str, int] = {}
    for _ in range(options.repeats):
        shutil.rmtree(out, ignore_errors=True)
        seconds, got = clean(crawl, out, options.engine)
        runs.append(seconds)
    median = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    peak = own_peak()
    scale = _CRAWL_BYTES / crawl.stat().st_size
    repeats = url_repeat_rate(out / "repeats-alone", _SCANNED // (10 if options.quick else 1))
    pages = got["ingest"] * scale
    kept = got["language"] * scale
    hours = {name: spent * scale / 3600 for name, spent in median.items()}
    total = sum(hours.values())
    dearest = max(hours, key=hours.__getitem__)
    blocking = block_list_rates(out / "blocked", _BLOCKED // (10 if options.quick else 1))
    whole = corpus_rate(out / "whole", 200_000 // (10 if options.quick else 1))
    shutil.rmtree(out, ignore_errors=True)
    figures = {
        "pages at 100 TB": pages, "documents that reach the labels": kept, "core hours at 100 TB": total, "days on 1,000 cores": total / 1000 / 24,
        f"share of {dearest}": hours[dearest] / total,
        "url repeats, pages/s in one process": repeats, "url repeats at 100 TB, hours in one process": pages / repeats / 3600,
        **blocking,
        **{f"{name}, documents/s in one process": rate for name, rate in whole.items()},
        **{f"{name} at 100 TB, hours in one process": kept / rate / 3600 for name, rate in whole.items()},
        "peak MiB of the process": peak,
    }  # fmt: skip
    publish("rates", list(rows_of(median, got, scale)), figures, {"crawl": crawl.name, "engine": options.engine, "repeats": options.repeats})
    print("\n" + paragraph(crawl.name, crawl.stat().st_size, got["ingest"], figures, dearest, list(whole)))


def paragraph(name: str, size: int, crawled: int, figures: dict[str, float], dearest: str, whole: list[str]) -> str:
    """What ARCHITECTURE.md says of a crawl of 100 TB."""
    alone = ", ".join(f"{step} {figures[f'{step} at 100 TB, hours in one process'] / 24:.1f} days" for step in whole)
    return textwrap.fill(
        f"100 TB like `{name}` ({size / 1e6:.1f} MB, {crawled} pages) are {figures['pages at 100 TB']:.2e} pages, of which {figures['documents that reach the labels']:.2e} "
        f"are extracted. At the rates of `python -m benchmarks.rates` the stages that are mapped over shards cost {figures['core hours at 100 TB']:,.0f} core-hours, "
        f"{figures[f'share of {dearest}']:.0%} of it {dearest}: {figures['days on 1,000 cores']:.1f} days on 1,000 cores. The steps that see the whole corpus run in one "
        f"process: url repeats {figures['url repeats at 100 TB, hours in one process'] / 24:.1f} days, {alone}.",
        132,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
