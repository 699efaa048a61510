"""What the benchmarks share: a peer's own environment, interleaved runs, a table, a file of results."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PEERS = Path(os.environ.get("CRAWL2CHAT_PEERS", Path.home() / ".cache" / "crawl2chat" / "peers"))
RESULTS = Path(__file__).parent / "results"
TORCH = "torch==2.13.0"  # the CPU build comes first, or a peer draws in gigabytes of CUDA


def python_of(name: str, *packages: str) -> Path:
    """The interpreter of the environment PEERS/name, made with `packages` (in this order) where it does not exist."""
    folder = PEERS / name
    interpreter, done = folder / "bin" / "python", folder / ".installed"
    if not (done.exists() and done.read_text() == "\n".join(packages)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr, flush=True)
        with (folder.parent / f"{name}.log").open("w") as log:
            run = lambda *command: subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)  # noqa: E731
            if not interpreter.exists():
                run(sys.executable, "-m", "venv", str(folder))
            for package in packages:
                run(str(interpreter), "-m", "pip", "install", "--quiet", "--prefer-binary", package)
        done.write_text("\n".join(packages))
    return interpreter


def run_json(command: Sequence[str], **environment: str) -> dict[str, Any]:
    """Run a command from the repository's root; the last line that it prints is its result as JSON."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    done = subprocess.run(
        list(command), check=False, capture_output=True, text=True, env=env, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def interleaved(ways: Mapping[str, Callable[[], dict[str, Any]]], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Every way once, then every way again: what the machine does beside them falls on all alike."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(way())
    return found


def median(runs: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, numbers with three digits."""
    shown = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [list(head), ["---"] + ["---:"] * (len(head) - 1), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save_parts(name: str, parts: Mapping[str, Mapping[str, Any]], **about: Any) -> Path:
    """Save what was measured of a benchmark's parts (`--only`), each with its date and `about`; the others stay as they were."""
    path = RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    earlier.pop("machine", None)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    load = [round(value, 1) for value in os.getloadavg()]
    return save(name, earlier | {part: {"date": date, "load": load, **about, **found} for part, found in parts.items()})


def save(name: str, result: Mapping[str, Any]) -> Path:
    """benchmarks/results/NAME.json, with the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"cores": os.cpu_count(), "processor": _processor(), "python": platform.python_version()}
    path.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n", encoding="utf-8")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
