"""One SFT or reward job of ours in this process, as `rlhf_core.train` runs it; prints one JSON line."""

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
    ends: list[float] = []
    busy: list[float] = []
    losses: list[float] = []
    write = Recorder.write

    def timed(self: Recorder, step: int, steps: int, figures: dict[str, float]) -> None:
        ends.append(time.perf_counter())
        busy.append(time.process_time())
        losses.append(figures["loss"])
        write(self, step, steps, figures)

    Recorder.write = timed  # type: ignore[method-assign]
    train(job)
    # the last step is followed by the held-out examples: it is left out
    seconds, cpu = ([b - a for a, b in itertools.pairwise(times[:-1])] for times in (ends, busy))
    print("\n" + json.dumps({"seconds": seconds, "cpu_seconds": cpu, "losses": losses, "peak_mb": own_peak()}))


if __name__ == "__main__":
    main()
