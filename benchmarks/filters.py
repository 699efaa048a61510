"""Everything of cleaning but extraction, on one core: pages a second, and how many times datatrove's same filters.

The texts are those of ../shared/real/pages.warc.gz. Each filter sees every text, so that what one drops spares none of the
others its work. Seconds are the processor's: what else the machine does counts less.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmarks.measuring import REAL, WORK, arguments, peer, publish, timed, version
from benchmarks.peers import interleaved
from data.corpus import extraction
from data.corpus.reading import inputs, readers
from data.settings import ExtractionSettings, IngestSettings
from data.shards import list_shards, read_shard, write_shard

_HERE = Path(__file__).parent
_WORK = WORK / "filters"
# Our stages and the filters of datatrove that do the same.
SAME = {
    "quality": ("gopher repetition", "gopher quality", "fineweb"),
    "lines": ("c4",),
    "signatures": ("signatures",),
    "sensitive": ("personal data",),
}


def main(arguments_given: list[str]) -> None:
    options = arguments(__doc__ or "", repeats=3).parse_args(arguments_given)
    if options.quick:
        options.repeats = 1
    python = peer("datatrove")
    pages, documents, texts = _inputs(quick=options.quick)
    shutil.rmtree(_WORK / "out", ignore_errors=True)
    ours = [sys.executable, "-m", "benchmarks._our_filters", str(pages), str(documents), str(_WORK / "out" / "crawl2chat")]
    theirs = [python, str(_HERE / "_datatrove_filters.py"), str(texts), str(_WORK / "out" / "datatrove")]
    timings = interleaved(
        {"crawl2chat": partial(timed, ours, _WORK / "crawl2chat.log"), "datatrove": partial(timed, theirs, _WORK / "datatrove.log")},
        options.repeats,
    )
    # Of each the run with the median of all seconds.
    run = {name: sorted(runs, key=lambda one: one["seconds"])[len(runs) // 2] for name, runs in timings.items()}
    mine, other = (run[name]["stages"] for name in ("crawl2chat", "datatrove"))
    count = run["crawl2chat"]["pages"]
    rows = []
    for stage, seconds in mine.items():
        same = sum(other[name] for name in SAME.get(stage, ()))
        rows.append(
            {
                "stage": stage,
                "ms/page": 1000 * seconds / count,
                "datatrove's": ", ".join(SAME.get(stage, ())) or "-",
                "its ms/page": 1000 * same / count if same else "-",
                "times": same / seconds if same else "-",
            }
        )
    figures = {
        "pages a second, all filters": count / sum(mine.values()),
        "times datatrove, the same filters": sum(other.values()) / sum(mine[stage] for stage in SAME),
        "times datatrove, all of ours against its same": sum(other.values()) / sum(mine.values()),
    }
    about = {"pages": count, "repeats": options.repeats, "datatrove": version(python, "datatrove"), "seconds": {name: run[name]["stages"] for name in run}}
    publish("filters", rows, figures, about)


def _inputs(quick: bool) -> tuple[Path, Path, Path]:
    """Pages and their texts in one shard each, and the texts as JSON lines; extracted once and kept."""
    folder = _WORK / ("few" if quick else "all")
    pages, documents, texts = folder / "pages.parquet", folder / "documents.parquet", folder / "texts.jsonl"
    if not texts.exists():
        (source,) = inputs.list_inputs(str(REAL / "pages.warc.gz"))
        shutil.rmtree(folder / "ingest", ignore_errors=True)
        readers.ingest_file(source, folder / "ingest", IngestSettings())
        table = pa.concat_tables([read_shard(shard) for shard in list_shards(folder / "ingest" / "documents")]).combine_chunks()
        write_shard(pages, table.take(list(range(0, len(table), 8))) if quick else table)
        write_shard(documents, extraction.extract_text(read_shard(pages), ExtractionSettings()).kept)
        lines = [json.dumps({"text": text}) + "\n" for text in read_shard(documents)["text"].to_pylist()]
        texts.write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(folder / "ingest")
    return pages, documents, texts


if __name__ == "__main__":
    main(sys.argv[1:])
