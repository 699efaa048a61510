"""What Prefect costs a whole run: `python -m benchmarks.orchestration [--repeats N] [--until STAGE] [--set KEY=VALUE]`.

The pipeline as a person starts it (`python -m flows.full_pipeline`, temporary server, new store), in turn with the same recipe
through the same tasks' functions without Prefect's engine (_orchestration_bare.py): no server, no flow and task runs, no
artifacts in a UI. Both make everything anew in processes of their own; seconds are from a process's start to its end, medians.

Prefect's seconds are the difference, and the seconds of importing its client, which the bare process pays as well. Its share is
theirs of the run with Prefect.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers

ROOT = Path(__file__).parents[1]
WAYS = {"with Prefect": "flows.full_pipeline", "bare": "benchmarks._orchestration_bare"}
IMPORT = [sys.executable, "-c", "import prefect, prefect.artifacts, prefect.events, prefect.runtime, prefect.task_runners"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--until", help="stop after this stage (default: the whole way)")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE")
    given = parser.parse_args()
    arguments = ["--recipe", given.recipe, *(["--until", given.until] if given.until else [])]
    arguments += [part for one in given.set for part in ("--set", one)]
    with tempfile.TemporaryDirectory() as folder:
        environment = environment_without_server(Path(folder) / "home")
        seconds(IMPORT, environment)  # fills the disk's cache
        imports = statistics.median(seconds(IMPORT, environment) for _ in range(3))

        def timed(way: str, number: list[int] = [0]) -> dict[str, Any]:  # noqa: B006 (a counter)
            number[0] += 1
            store = Path(folder) / f"store{number[0]}"
            return {"seconds": seconds([sys.executable, "-m", WAYS[way], "--store", str(store), *arguments], environment)}

        runs = peers.interleaved({way: (lambda way=way: timed(way)) for way in WAYS}, given.repeats)
    wall = {way: peers.median(found, "seconds") for way, found in runs.items()}
    own = wall["with Prefect"] - wall["bare"] + imports
    share = own / wall["with Prefect"]
    print(peers.table(["", "seconds"], [*wall.items(), ("importing Prefect", imports), ("Prefect's own", own)]))
    print(f"Prefect's share of the run: {share:.1%}")
    result = {"arguments": arguments, "repeats": given.repeats, "seconds": {**wall, "import": imports}, "share": round(share, 4)}
    print(peers.save("orchestration", result))


def environment_without_server(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    main()
