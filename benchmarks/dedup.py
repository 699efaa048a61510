"""Near-duplicate detection against datatrove's four MinHash stages and text-dedup: seconds, memory, recall and precision.

Synthetic documents (benchmarks/texts.py) with planted copies, 14 bands of 8 rows, one core each: 3,000, of which datatrove takes
minutes, or more of them by --documents 15000. Accuracy on 3,000 against brute force: a pair is right where its word 5-grams have a Jaccard similarity of THRESHOLD at least, and
found where both documents are in one cluster.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._our_dedup import UNVERIFIED
from benchmarks.measuring import WORK, Timing, arguments, peer, publish, timed, version
from benchmarks.peers import interleaved, median
from benchmarks.texts import documents, write_documents
from data.shards import list_shards, read_shard

THRESHOLD = (1 / 14) ** (1 / 8)  # 0.719, the usual threshold of 14 x 8 bands (1 / bands) ^ (1 / rows); 0.72 in our settings
NOT_COMPARED = "crawl2chat, candidates not compared"
_HERE = Path(__file__).parent
_WORK = WORK / "dedup"

Pairs = set[tuple[int, int]]


def main(arguments_given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=2)
    parser.add_argument("--documents", type=int, default=3000, help="documents that are timed (default: 3000)")
    parser.add_argument("--compared", type=int, default=3000, help="documents of the comparison with brute force")
    options = parser.parse_args(arguments_given)
    if options.quick:
        options.documents, options.compared, options.repeats = 1500, 500, 1
    pythons = {name: peer(name) for name in ("datatrove", "text-dedup")}
    shutil.rmtree(_WORK, ignore_errors=True)
    corpora = {size: _write(size) for size in {options.documents, options.compared}}

    print(f"{options.documents} documents, one core")
    timings = interleaved(_runs(corpora[options.documents], pythons, options.documents), options.repeats)
    print(f"{options.compared} documents against brute force")
    truth = _true_pairs(corpora[options.compared])
    accuracy = {}
    for name, run in _runs(corpora[options.compared], pythons, options.compared).items():
        timing = timings[name][-1] if options.compared == options.documents else run()  # what was found lies there
        found = _found(name, timing, options.compared)
        accuracy[name] = {"recall": len(found & truth) / len(truth), "precision": len(found & truth) / max(len(found), 1)}

    seconds = {name: median(runs, "seconds") for name, runs in timings.items()}
    rows = [
        {"": name, "seconds": seconds[name], "documents/s": options.documents / seconds[name],
         "peak MiB": median(timings[name], "peak"), **accuracy[name]}
        for name in timings
    ]  # fmt: skip
    figures = {
        "times datatrove": seconds["datatrove"] / seconds["crawl2chat"],
        "times datatrove, candidates not compared": seconds["datatrove"] / seconds[NOT_COMPARED],
        "times text-dedup": seconds["text-dedup"] / seconds["crawl2chat"],
        "true pairs": len(truth),
    }
    about = {
        "documents": options.documents, "compared": options.compared, "repeats": options.repeats, "threshold": THRESHOLD,
        "versions": {name: version(python, name) for name, python in pythons.items()}, "seconds": "within the process, imports left out",
        "stages": {name: [{k: v for k, v in run.items() if k != "clusters"} for run in runs] for name, runs in timings.items()},
    }  # fmt: skip
    publish("dedup", rows, figures, about)


def _write(size: int) -> Path:
    """Shards for us, JSON lines for the others."""
    folder = _WORK / str(size)
    write_documents(folder / "documents", documents(size))
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as lines:
        for number, text in enumerate(_texts(folder)):
            lines.write(json.dumps({"id": str(number), "text": text}) + "\n")
    return folder


def _texts(folder: Path) -> list[str]:
    return [text for shard in list_shards(folder / "documents") for text in read_shard(shard, ["text"])["text"].to_pylist()]


def _runs(folder: Path, pythons: dict[str, str], size: int) -> dict[str, Callable[[], Timing]]:
    texts = str(folder / "texts.jsonl")

    def run(name: str, command: list[str], *more: str) -> Timing:
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        return timed([*command, str(out), *more], folder / f"{name}.log")

    ours = [sys.executable, "-m", "benchmarks._our_dedup", str(folder / "documents")]
    return {
        "crawl2chat": partial(run, "crawl2chat", ours),
        NOT_COMPARED: partial(run, NOT_COMPARED, ours, UNVERIFIED),
        "datatrove": partial(run, "datatrove", [pythons["datatrove"], str(_HERE / "_datatrove_dedup.py"), texts]),
        "text-dedup": partial(run, "text-dedup", [pythons["text-dedup"], str(_HERE / "_text_dedup.py"), texts], str(size)),
    }


def _true_pairs(folder: Path) -> Pairs:
    """All pairs with the Jaccard similarity THRESHOLD, by brute force over their sets of word 5-grams."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes = []
    for number, text in enumerate(_texts(folder)):
        words = text.split()
        grams = {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}
        sizes.append(len(grams))
        for gram in grams:
            holders[gram].append(number)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for numbers in holders.values():
        for pair in combinations(numbers, 2):
            shared[pair] += 1
    return {(a, b) for (a, b), both in shared.items() if both / (sizes[a] + sizes[b] - both) >= THRESHOLD}


def _found(name: str, timing: Timing, size: int) -> Pairs:
    folder = _WORK / str(size) / name
    clusters: dict[Any, list[int]] = defaultdict(list)
    members: Iterable[tuple[int, Any]]
    if name in ("crawl2chat", NOT_COMPARED):
        tables = [read_shard(shard, ["id", "duplicate_cluster"]) for shard in list_shards(folder / "labels")]
        members = [(int(row["id"], 16), row["duplicate_cluster"]) for table in tables for row in table.to_pylist()]
    elif name == "datatrove":
        members = np.fromfile(folder / "remove" / "000000.clusters", "<u4").reshape(-1, 2).tolist()
    else:
        members = enumerate(timing["clusters"])
    for number, cluster in members:
        clusters[cluster].append(number)
    return {pair for numbers in clusters.values() for pair in combinations(sorted(numbers), 2)}


if __name__ == "__main__":
    main(sys.argv[1:])
