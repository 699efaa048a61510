"""How the stages grow that see the whole corpus: duplicates and the selection over 10, 30 and 100 thousand synthetic documents,
with --million over 10 and 100 thousand and a million, one process each; time exponent, memory."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np

from benchmarks._our_dedup import SELECTED
from benchmarks.measuring import WORK, arguments, publish, timed
from benchmarks.peers import median
from benchmarks.texts import documents, write_documents

_WORK = WORK / "growth"
_WORDS = 100  # short documents: what grows with their number is asked here, not with their length
_SHARD = 20_000  # documents


def main(arguments_given: list[str]) -> None:
    parser = arguments(__doc__ or "", repeats=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000], help="documents (default: 10000 30000 100000)")
    parser.add_argument("--million", action="store_true", help="10 thousand, 100 thousand and a million, which takes longer than the rest together")
    options = parser.parse_args(arguments_given)
    if options.million:
        options.sizes = [10_000, 100_000, 1_000_000]
    if options.quick:
        options.sizes = [1000, 10_000, 30_000]
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        folder = _WORK / str(size)
        shutil.rmtree(folder, ignore_errors=True)
        print(f"writing {size} documents", flush=True)
        write_documents(folder / "documents", documents(size, _WORDS), _SHARD)
        command = [sys.executable, "-m", "benchmarks._our_dedup", str(folder / "documents"), str(folder / "out"), SELECTED]
        timings = [timed(command, folder / f"{size}.log") for _ in range(options.repeats)]
        parts = {name: median(timings, name) for name in ("signatures", "clusters", "selection", "seconds", "kept")}
        rows.append({"documents": size, **parts, "documents/s": size / parts["seconds"], "peak MiB": median(timings, "peak")})
        shutil.rmtree(folder, ignore_errors=True)
    logarithms = np.log([[row["documents"], row["seconds"]] for row in rows])
    steps = np.diff(logarithms[:, 1]) / np.diff(logarithms[:, 0])
    figures = {
        "time exponent, least squares": float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0]),
        "time exponent of the last step": float(steps[-1]),
        f"peak MiB at {rows[-1]['documents']} documents": rows[-1]["peak MiB"],
    }
    about = {"words": _WORDS, "repeats": options.repeats, "seconds": "signatures, clusters and selection, one core, imports left out"}
    publish("growth", rows, figures, about)


if __name__ == "__main__":
    main(sys.argv[1:])
