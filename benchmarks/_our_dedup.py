"""Our deduplication as a process of its own: documents' shards in, clusters out, one core."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.measuring import own_peak
from data.corpus.duplicates import dedup
from data.corpus.shard_work import run_label
from data.settings import DedupSettings
from data.shards import list_shards


def main(folder: Path, out: Path, verify: bool) -> None:
    settings = DedupSettings(verify=verify)
    start = time.perf_counter()
    documents = list_shards(folder)
    for index, shard in enumerate(documents):
        run_label(dedup.signatures, shard, out / "signatures", index, settings)
    signed = time.perf_counter()
    dedup.find_duplicates(list_shards(out / "signatures" / "labels"), out, settings, documents)
    end = time.perf_counter()
    print(json.dumps({"seconds": end - start, "signatures": signed - start, "clusters": end - signed, "peak": own_peak()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "unverified" not in sys.argv[3:])
