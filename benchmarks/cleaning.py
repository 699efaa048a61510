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

from benchmarks.measuring import REAL, WORK, arguments, peer, publish, timed, version
from benchmarks.peers import interleaved, median
from data.corpus.reading.charset import decode
from data.shards import list_shards, read_shard

_HERE = Path(__file__).parent
_WORK = WORK / "cleaning"
WORKERS = 2
_RECORD = re.compile(rb"(?=WARC/1\.[01]\r\n)")
_TARGET = re.compile(rb"(?m)^(WARC-Target-URI: [^\r\n]+)")


def main(arguments_given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=3)
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
    processor = {name: median(runs, "processor") for name, runs in timings.items()}
    rows = [
        {"": name, "wall s": wall[name], "pages/s": pages / wall[name], "processor s": processor[name], "processor ms/page": 1000 * processor[name] / pages}
        for name in timings
    ]  # fmt: skip
    figures = {
        "times datatrove, wall": wall["datatrove"] / wall["crawl2chat"],
        "times datatrove, processor seconds": processor["datatrove"] / processor["crawl2chat"],
        "Prefect's share of wall time": 1 - wall["crawl2chat without Prefect"] / wall["crawl2chat"],
        "Prefect's seconds": wall["crawl2chat"] - wall["crawl2chat without Prefect"],
        **_found(),
    }
    about = {
        "pages": pages, "workers": WORKERS, "repeats": options.repeats, "engine": options.engine,
        "versions": {"datatrove": version(python, "datatrove"), "its trafilatura": version(python, "trafilatura"), "our trafilatura": version(sys.executable, "trafilatura")},
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


def _found() -> dict[str, float]:
    """Of the segments of pages_truth.json, the shares rightly kept and rightly dropped by our extraction and by trafilatura's defaults."""
    from trafilatura import extract

    truth = json.loads((REAL / "pages_truth.json").read_text(encoding="utf-8"))
    store = _WORK / "crawl2chat"
    by_id: dict[str, str] = {}
    for shard in sorted((store / "extraction").glob("*/documents/part-*.parquet")):
        table = read_shard(shard, ["id", "text"])
        by_id.update(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for shard in [shard for made in sorted((store / "ingest").iterdir()) for shard in list_shards(made / "documents")]:
        table = read_shard(shard, ["id", "url", "html", "charset"])
        for row in table.to_pylist():
            url = row["url"].removeprefix("http://") if row["url"].startswith("http://hard::") else row["url"]
            if url in truth:
                ours[url] = by_id.get(row["id"], "")
                theirs[url] = extract(decode(row["html"] or b"", row["charset"])) or ""
    return {
        f"{what}, {who}": share
        for who, texts in (("crawl2chat", ours), ("trafilatura's defaults", theirs))
        for what, share in _shares(truth, texts).items()
    }


def _shares(truth: dict[str, Any], texts: dict[str, str]) -> dict[str, float]:
    right = {"keep": 0, "drop": 0}
    total = {"keep": 0, "drop": 0}
    for url, text in texts.items():
        folded = " ".join(text.split())
        for kind in right:
            for segment in truth[url][kind]:
                total[kind] += 1
                right[kind] += (" ".join(segment.split()) in folded) == (kind == "keep")
    return {
        "keep-segments found": right["keep"] / total["keep"],
        "drop-segments absent": right["drop"] / total["drop"],
        "segments right": (right["keep"] + right["drop"]) / (total["keep"] + total["drop"]),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
