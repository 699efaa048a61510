"""What Prefect costs a cleaning run: the pipeline's own tasks against the same functions in a bare pool of as many processes.

On ../shared/real/pages.warc.gz, dealt into one archive a process, interleaved. A run's seconds are those of its stages, from the
first task to the last, with Prefect's server running and the workers' imports made, as where a flow is deployed; the start
(Prefect's imports, a temporary server) is counted apart: it does not grow with the crawl.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from typing import Any

from benchmarks.cleaning import WORKERS, archives
from benchmarks.measuring import WORK, arguments, publish, timed
from benchmarks.peers import interleaved, median

_WORK = WORK / "prefect_share"


def main(arguments_given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("--copies", type=int, default=2, help="of the 506 pages (default: 2)")
    parser.add_argument("--engine", default="combined", help="who finds the main text (default: combined)")
    options = parser.parse_args(arguments_given)
    if options.quick:
        options.copies = options.repeats = 1
    folder, pages = archives(_WORK / "archives", options.copies, 8 if options.quick else 1)
    print(f"{pages} pages, {WORKERS} processes each")

    def run(way: str) -> dict[str, Any]:
        out = _WORK / way
        shutil.rmtree(out, ignore_errors=True)
        return timed([sys.executable, "-m", "benchmarks._our_cleaning", way, str(folder), str(out), str(WORKERS), options.engine], _WORK / f"{way}.log")

    timings = interleaved({way: partial(run, way) for way in ("prefect", "plain")}, options.repeats)
    seconds, start, processor = ({way: median(runs, name) for way, runs in timings.items()} for name in ("seconds", "start", "processor"))
    rows = [{"": way, "seconds": seconds[way], "start": start[way], "pages/s": pages / seconds[way], "processor s": processor[way]} for way in timings]
    figures = {
        "Prefect's share of a run's wall time": 1 - seconds["plain"] / seconds["prefect"],
        "Prefect's seconds in a run": seconds["prefect"] - seconds["plain"],
        "Prefect's seconds before it": start["prefect"] - start["plain"],
        "share with the start": 1 - (seconds["plain"] + start["plain"]) / (seconds["prefect"] + start["prefect"]),
    }
    about = {"pages": pages, "workers": WORKERS, "repeats": options.repeats, "stages": {way: runs[-1]["stages"] for way, runs in timings.items()}}
    publish("prefect_share", rows, figures, about)


if __name__ == "__main__":
    main(sys.argv[1:])
