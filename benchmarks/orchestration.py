"""What Prefect costs a whole run: `python -m benchmarks.orchestration [--repeats N] [--until STAGE] [--set KEY=VALUE]`.

The pipeline as a person starts it (`python -m flows.full_pipeline`, temporary server, new store), in turn with the same recipe
through the same tasks' functions without Prefect's engine (_orchestration_bare.py): no server, no flow and task runs, no
artifacts in a UI. Both make everything anew in processes of their own; seconds are from a process's start to its end, medians;
processor seconds are theirs and those of the processes below them that they waited for (the server is one).

Prefect's seconds are the difference, and the seconds of importing its client, which the bare process pays as well. Its share is
theirs of the run with Prefect. The server's database is made beforehand, as it is by the first run of all in a home: that takes its
own seconds once, and they are told apart, with the share of a run that pays them.
"""

from __future__ import annotations

import argparse
import os
import resource
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
DATABASE = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
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
        cost(IMPORT, environment)  # fills the disk's cache
        imports = statistics.median(cost(IMPORT, environment)["seconds"] for _ in range(3))
        upgrade = cost(DATABASE, environment)["seconds"]
        database = max(0.0, upgrade - cost(DATABASE, environment)["seconds"])  # the second time there is nothing to do

        def timed(way: str, number: list[int] = [0]) -> dict[str, Any]:  # noqa: B006 (a counter)
            number[0] += 1
            store = Path(folder) / f"store{number[0]}"
            return cost([sys.executable, "-m", WAYS[way], "--store", str(store), *arguments], environment)

        runs = peers.interleaved({way: (lambda way=way: timed(way)) for way in WAYS}, given.repeats)
    wall = {way: peers.median(found, "seconds") for way, found in runs.items()}
    processor = {way: peers.median(found, "processor") for way, found in runs.items()}
    own = wall["with Prefect"] - wall["bare"] + imports
    share = own / wall["with Prefect"]
    first = (own + database) / (wall["with Prefect"] + database)
    rows = [(way, wall[way], processor[way]) for way in WAYS]
    rows += [("importing Prefect", imports, ""), ("Prefect's own", own, ""), ("the database, once a home", database, "")]
    print(peers.table(["", "seconds", "processor"], rows))
    print(f"Prefect's share of the run: {share:.1%}; of the first run in a home: {first:.1%}")
    seconds = {**wall, "import": imports, "database": database}
    result = {"arguments": arguments, "repeats": given.repeats, "seconds": seconds, "processor": processor, "share": round(share, 4)}
    print(peers.save("orchestration", result | {"share_of_first": round(first, 4)}))


def environment_without_server(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def cost(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and processor seconds of a command; RuntimeError with its last words where it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return {"seconds": wall, "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


if __name__ == "__main__":
    main()
