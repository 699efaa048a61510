"""Our deduplication as a process of its own, one core: documents' shards in, clusters out, and on request the selection."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.measuring import own_peak
from data.corpus import selection
from data.corpus.duplicates import dedup, minhash
from data.corpus.shard_work import run_label
from data.settings import DedupSettings, SelectionSettings
from data.shards import list_shards

UNVERIFIED, SELECTED = "unverified", "selected"


def main(folder: Path, out: Path, verify: bool, select: bool) -> None:
    settings = DedupSettings(verify=verify)
    documents = list_shards(folder)
    times = [time.perf_counter()]
    for index, shard in enumerate(documents):
        run_label(minhash.signatures, shard, out / "signatures", index, settings)
    signatures = list_shards(out / "signatures" / "labels")
    times.append(time.perf_counter())
    dedup.find_duplicates(signatures, out, settings, documents)
    times.append(time.perf_counter())
    kept = 0
    if select:
        chosen = SelectionSettings(rules=[], prefer=None, personal_data="keep")
        kept = selection.select(documents, {"duplicates": list_shards(out / "labels")}, out / "corpus", chosen, signatures).counts.kept
        times.append(time.perf_counter())
    parts = {name: end - start for name, start, end in zip(("signatures", "clusters", "selection"), times, times[1:], strict=False)}
    print(json.dumps({"seconds": times[-1] - times[0], **parts, "kept": kept, "peak": own_peak()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), UNVERIFIED not in sys.argv[3:], SELECTED in sys.argv[3:])
