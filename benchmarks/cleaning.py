"""Cleaning from archives to kept documents against datatrove 0.10, the same filters, two processes each; and what it finds.

The pages are ../shared/real/pages.warc.gz, a few copies of it with URLs of their own, so that the start (imports, Prefect's
server: some seconds) weighs as little as in a real crawl. Wall time is that of the whole process, from its start to its end.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.extraction import segment_shares, truth
from benchmarks.measuring import REAL, WORK, arguments, peer, publish, timed, version
from benchmarks.peers import interleaved, median, table
from data.corpus.reading.charset import decode
from data.shards import list_shards, read_shard

_HERE = Path(__file__).parent
_WORK = WORK / "cleaning"
WORKERS = 2
_RECORD = re.compile(rb"(?=WARC/1\.[01]\r\n)")
_TARGET = re.compile(rb"(?m)^(WARC-Target-URI: [^\r\n]+)")


def main(arguments_given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=2)
    parser.add_argument("--copies", type=int, default=4, help="of the 506 pages (default: 4)")
    parser.add_argument("--engine", default="combined", help="who finds the main text (default: combined)")
    options = parser.parse_args(arguments_given)
    if options.quick:
        options.copies = options.repeats = 1
    python = peer("datatrove")
    crawl, pages = archives(_WORK / "archives", options.copies, 8 if options.quick else 1)
    print(f"{pages} pages, {WORKERS} processes each")

    def run(name: str, command: list[str], *more: str) -> dict[str, Any]:
        out = _WORK / name
        shutil.rmtree(out, ignore_errors=True)
        return timed([*command, str(crawl), str(out), str(WORKERS), *more], _WORK / f"{name}.log")

    ours = [sys.executable, "-m", "benchmarks._our_cleaning"]
    timings = interleaved(
        {
            "crawl2chat": partial(run, "crawl2chat", [*ours, "prefect"], options.engine),
            "crawl2chat without Prefect": partial(run, "plain", [*ours, "plain"], options.engine),
            "datatrove": partial(run, "datatrove", [python, str(_HERE / "_datatrove_cleaning.py")]),
        },
        options.repeats,
    )
    wall = {name: median(runs, "wall") for name, runs in timings.items()}
    # datatrove's workers are children of a server of forks that nobody waits for, so their processor seconds are not known.
    processor: dict[str, float | str] = {name: "-" if name == "datatrove" else median(runs, "processor") for name, runs in timings.items()}
    rows = [
        {"": name, "wall s": wall[name], "pages/s": pages / wall[name], "processor s": processor[name]}
        for name in timings
    ]  # fmt: skip
    figures = {
        "times datatrove, wall": wall["datatrove"] / wall["crawl2chat"],
        "Prefect's share of wall time": 1 - wall["crawl2chat without Prefect"] / wall["crawl2chat"],
        "Prefect's seconds": wall["crawl2chat"] - wall["crawl2chat without Prefect"],
    }
    found = _found()
    print("\n" + table(list(found[0]), [list(row.values()) for row in found]))
    about = {
        "pages": pages, "workers": WORKERS, "repeats": options.repeats, "engine": options.engine,
        "versions": {"datatrove": version(python, "datatrove"), "its trafilatura": version(python, "trafilatura"), "our trafilatura": version(sys.executable, "trafilatura")},
        "found": found,
        "stages": {name: runs[-1].get("stages") for name, runs in timings.items()},
    }  # fmt: skip
    publish("cleaning", rows, figures, about)


def archives(folder: Path, copies: int, every: int) -> tuple[Path, int]:
    """A folder of one archive a worker, as large as a crawl's: copies of every n-th page under URLs of their own; and the pages."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    records = [record for record in _RECORD.split(gzip.decompress((REAL / "pages.warc.gz").read_bytes())) if record][::every]
    for worker in range(WORKERS):
        with (folder / f"pages-{worker}.warc.gz").open("wb") as file:
            for copy in range(copies):
                for record in records[worker::WORKERS]:
                    file.write(gzip.compress(_TARGET.sub(rb"\1" + (b"?copy=%d" % copy if copy else b""), record, count=1), 6))
    return folder, copies * len(records)


def _found() -> list[dict[str, Any]]:
    """What stands of the labelled segments in our extracted texts, in trafilatura's by its defaults, and in what each side kept at the end."""
    from trafilatura import extract

    store = _WORK / "crawl2chat"
    pages = [row for table in _shards(store / "ingest", ["url", "html", "charset"]) for row in table.to_pylist() if row["url"] in truth()]
    none = dict.fromkeys((row["url"] for row in pages), "")  # of a page that a side dropped nothing is found

    def ours(stage: str) -> dict[str, str]:
        rows = [row for table in _shards(store / stage, ["url", "text"]) for row in table.to_pylist()]
        return none | {url: row["text"] for row in rows if (url := _original(row["url"])) in none}

    theirs: dict[str, str] = {}
    for file in sorted((_WORK / "datatrove" / "documents").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            theirs |= {_original(row["metadata"]["url"]): row["text"] for row in map(json.loads, lines)}
    texts = {
        "crawl2chat, extracted": ours("extraction"),
        "trafilatura's defaults, extracted": {row["url"]: extract(decode(row["html"] or b"", row["charset"])) or "" for row in pages},
        "crawl2chat, kept": ours("corpus"),
        "datatrove, kept": none | {url: text for url, text in theirs.items() if url in none},
    }
    return [{"": who, **segment_shares(found)} for who, found in texts.items()]


def _original(url: str) -> str:
    """The URL of the page that this one is a copy of: any copy may be the one that stays."""
    return url.partition("?copy=")[0]


def _shards(stage: Path, columns: list[str]) -> list[pa.Table]:
    return [read_shard(shard, columns) for made in sorted(stage.iterdir()) for shard in list_shards(made / "documents")]


if __name__ == "__main__":
    main(sys.argv[1:])
