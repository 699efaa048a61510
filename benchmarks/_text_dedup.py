"""Runs in text-dedup's environment: its MinHash over JSON lines, one process; prints the cluster of every document in one."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import text_dedup.minhash as minhash


def main(texts: Path, out: Path, documents: int) -> None:
    options = {
        "--path": "json", "--data_files": str(texts), "--split": "train", "--local": None, "--cache_dir": str(out / "cache"),
        "--output": str(out / "kept"), "--column": "text", "--ngram": "5", "--num_perm": "112", "--b": "14", "--r": "8",
        "--num_proc": "1", "--min_length": "1",
    }  # fmt: skip
    options.pop("--local")
    start = time.perf_counter()
    arguments = [part for name, value in options.items() for part in (name, value)]
    minhash.main(arguments, standalone_mode=False)
    seconds = time.perf_counter() - start
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:", 1)[1].split()[0]) / 1024
    clusters = [minhash.uf.find(number) for number in range(documents)]
    print(json.dumps({"seconds": seconds, "peak": peak, "clusters": clusters}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
