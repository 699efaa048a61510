"""Who finds how much of real pages' main text, and at what cost: our engines, and trafilatura as it comes. One core.

The pages are those of ../shared/real/pages.warc.gz. pages_truth.json names segments of each that are to be kept and to be dropped:
an engine is measured by the share of the first that stand in its text and the share of the second that do not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial

from benchmarks.measuring import REAL, WORK, arguments, publish, timed, version
from benchmarks.peers import interleaved, median

PLAIN = "trafilatura's defaults"
ENGINES = ("combined", "trafilatura", "trafilatura_fast", "resiliparse")


def main(arguments_given: list[str]) -> None:
    options = arguments(__doc__ or "", repeats=3).parse_args(arguments_given)
    if options.quick:
        options.repeats = 1
    command = [sys.executable, "-m", "benchmarks._our_extraction", "8" if options.quick else "1"]
    ways = {name: partial(timed, [*command, name], WORK / "extraction" / f"{name}.log") for name in (PLAIN, *ENGINES)}
    timings = interleaved(ways, options.repeats)
    pages = timings[PLAIN][0]["pages"]
    milliseconds = {name: 1000 * median(runs, "seconds") / pages for name, runs in timings.items()}
    rows = [{"": name, "ms/page": milliseconds[name], **runs[0]["shares"]} for name, runs in timings.items()]
    figures = {f"times {PLAIN}, {name}": milliseconds[PLAIN] / milliseconds[name] for name in ENGINES}
    publish("extraction", rows, figures, {"pages": pages, "repeats": options.repeats, "trafilatura": version(sys.executable, "trafilatura")})


def truth() -> dict[str, dict[str, list[str]]]:
    """By URL as the archive has it: segments to `keep` and to `drop`."""
    labelled = json.loads((REAL / "pages_truth.json").read_text(encoding="utf-8"))
    return {f"http://{url}" if url.startswith("hard::") else url: segments for url, segments in labelled.items()}


def segment_shares(texts: Mapping[str, str]) -> dict[str, float]:
    """Over the labelled pages among `texts` (by URL); white space does not count."""
    right = {"keep": 0, "drop": 0}
    total = {"keep": 0, "drop": 0}
    for url, segments in truth().items():
        if url not in texts:
            continue
        folded = " ".join(texts[url].split())
        for kind in right:
            for segment in segments[kind]:
                total[kind] += 1
                right[kind] += (" ".join(segment.split()) in folded) == (kind == "keep")
    return {
        "keep-segments found": right["keep"] / total["keep"],
        "drop-segments absent": right["drop"] / total["drop"],
        "segments right": (right["keep"] + right["drop"]) / (total["keep"] + total["drop"]),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
