"""One PPO job of ours in this process, as `rlhf_core.train` runs it; prints one JSON line."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

from benchmarks.measuring import own_peak
from rlhf_core.job.recorder import Recorder
from rlhf_core.settings import Job
from rlhf_core.train import train


def main() -> None:
    job = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    ends, busy, write = [], [], Recorder.write

    def timed(self: Recorder, step: int, steps: int, figures: dict[str, float]) -> None:
        ends.append(time.perf_counter())
        busy.append(time.process_time())
        write(self, step, steps, figures)

    Recorder.write = timed  # type: ignore[method-assign]
    train(job)
    lines = [json.loads(line) for line in (Path(job.output) / "metrics.jsonl").read_text().splitlines()]
    result = {
        # the last iteration is followed by the held-out answers: it is left out
        "seconds": [b - a for a, b in itertools.pairwise(ends[:-1])],
        "cpu_seconds": [b - a for a, b in itertools.pairwise(busy[:-1])],
        "scores": [line["reward"] for line in lines],
        "kl": [line["kl"] for line in lines],
        "length": [line["length"] for line in lines],
        "peak_mb": own_peak(),
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
