"""Runs in datatrove's environment: its four MinHash stages over JSON lines, one worker; clusters as [[number, cluster], ...]."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def main(texts: Path, out: Path) -> None:
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    read = JsonlReader(str(texts.parent), glob_pattern=texts.name)
    stages = {
        "signatures": ([read, MinhashDedupSignature(str(out / "signatures"), config=config)], 1),
        "buckets": ([MinhashDedupBuckets(str(out / "signatures"), str(out / "buckets"), config=config)], 14),
        "clusters": ([MinhashDedupCluster(str(out / "buckets"), str(out / "remove"), config=config, save_cluster_id=True)], 1),
        "filter": ([read, MinhashDedupFilter(str(out / "remove"), load_cluster_ids=True), JsonlWriter(str(out / "kept"), compression=None)], 1),
    }  # fmt: skip
    seconds = {}
    for name, (pipeline, tasks) in stages.items():
        start = time.perf_counter()
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(out / "logs" / name)).run()
        seconds[name] = time.perf_counter() - start
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:", 1)[1].split()[0]) / 1024
    print(json.dumps({"seconds": sum(seconds.values()), **seconds, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
