"""What Prefect costs a whole run: `python -m benchmarks.orchestration [--repeats N] [--until STAGE] [--set KEY=VALUE]`.

The pipeline as a person starts it (`python -m flows.full_pipeline`, temporary server, new store), in turn with the same recipe
through the same tasks' functions without Prefect's engine (_orchestration_bare.py): no server, no flow and task runs, no
artifacts in a UI. Both make everything anew in processes of their own; seconds are from a process's start to its end, medians.

Four fifths of a run are training jobs: processes that know nothing of Prefect, whose seconds differ between two runs by more than
all that Prefect costs, because the machine's do. So Prefect's own seconds are counted by their parts:

- the difference of all wall seconds outside of the jobs: start, every other stage, what lies between stages, the end;
- the difference of the processor seconds that the flow's process and its server take while jobs run: more they cannot take from them;
- the seconds of importing Prefect's client, which the bare process pays as well.

The share is theirs of the run with Prefect. The plain difference of the wall seconds is told beside it, with every run's. The
server's database is made beforehand, as it is by the first run of all in a home: that takes its own seconds once, told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmarks import peers
from tasks.store.artifacts import Manifest

ROOT = Path(__file__).parents[1]
WAYS = {"with Prefect": "flows.full_pipeline", "bare": "benchmarks._orchestration_bare"}
PARTS = ("seconds", "jobs", "beside jobs", "processor during jobs")
DATABASE = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
IMPORT = [sys.executable, "-c", "import prefect, prefect.artifacts, prefect.events, prefect.runtime, prefect.task_runners"]
SAMPLED_EVERY = 0.25  # seconds


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

        def seconds(command: list[str]) -> float:
            begun, _, ended = followed(command, environment)
            return ended - begun

        seconds(IMPORT)  # fills the disk's cache
        imports = statistics.median(seconds(IMPORT) for _ in range(3))
        upgrade = seconds(DATABASE)
        database = max(0.0, upgrade - seconds(DATABASE))  # the second time there is nothing to do
        stores = (Path(folder) / f"store{number}" for number in range(2 * given.repeats))

        def run(way: str) -> dict[str, float]:
            return parts([sys.executable, "-m", WAYS[way], *arguments], next(stores), environment)

        runs = peers.interleaved({way: partial(run, way) for way in WAYS}, given.repeats)
    medians = {way: {part: peers.median(found, part) for part in PARTS} for way, found in runs.items()}
    whole = medians["with Prefect"]["seconds"]
    more = {part: medians["with Prefect"][part] - medians["bare"][part] for part in PARTS}
    own = {
        "beside jobs": more["beside jobs"],
        "processor during jobs": max(0.0, more["processor during jobs"]),
        "importing Prefect": imports,
    }
    share, total = sum(own.values()) / whole, sum(own.values())
    print(peers.table(["", *PARTS], [[way, *found.values()] for way, found in medians.items()]))
    print("wall seconds run by run: " + "; ".join(f"{way} " + ", ".join(f"{run['seconds']:.0f}" for run in found) for way, found in runs.items()))
    print("Prefect's own seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in own.items()))
    print(f"Prefect's share of the run: {share:.1%}; of the first run in a home: {(total + database) / (whole + database):.1%}")
    print(f"by the plain difference of wall seconds, the machine's drift with it: {(more['seconds'] + imports) / whole:.1%}")
    result = {"arguments": arguments, "runs": runs, "own": own, "database": database, "share": round(share, 4)}
    print(peers.save("orchestration", result))


def environment_without_server(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def parts(command: list[str], store: Path, environment: dict[str, str]) -> dict[str, float]:
    """A run's wall seconds, those of its training jobs and those beside them, and the own processor seconds while jobs ran."""
    begun, samples, ended = followed([*command, "--store", str(store)], environment)
    times, processor = np.array(samples).T
    jobs = list(_jobs(store))
    inside = sum(last - first for first, last in jobs)
    meanwhile = sum(np.interp(last, times, processor) - np.interp(first, times, processor) for first, last in jobs)
    return dict(zip(PARTS, (ended - begun, inside, ended - begun - inside, float(meanwhile)), strict=True))


def _jobs(store: Path) -> Iterator[tuple[float, float]]:
    """First and last second of every stage that was made by a job."""
    for path in store.glob("*/*/manifest.json"):
        manifest = Manifest.model_validate_json(path.read_bytes())
        if "job.log" in manifest.files:
            yield manifest.started.timestamp(), manifest.ended.timestamp()


def followed(command: list[str], environment: dict[str, str]) -> tuple[float, list[tuple[float, float]], float]:
    """When a command began and ended, and in between (time, processor seconds of its process and of its server's) every quarter
    of a second; RuntimeError with its last words where it fails."""
    with tempfile.TemporaryFile("w+") as said:
        begun = time.time()
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        samples, own, last = [(begun, 0.0)], {process.pid: psutil.Process(process.pid)}, 0.0
        while process.poll() is None:
            try:
                if len(own) == 1:
                    own |= {child.pid: child for child in process.children() if "flows.server_process" in child.cmdline()}
                last = max(last, sum(sum(one.cpu_times()[:2]) for one in own.values()))
                samples.append((time.time(), last))
            except psutil.Error:
                pass  # one of them has just ended
            try:
                process.wait(SAMPLED_EVERY)
            except psutil.TimeoutExpired:
                continue
        ended = time.time()
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}:\n{said.read()[-4000:]}")
        return begun, samples, ended


if __name__ == "__main__":
    main()
