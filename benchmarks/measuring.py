"""What the corpus benchmarks share beyond benchmarks/peers.py: whole processes timed, with their memory; how results are published."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
WORK = peers.PEERS.parent / "benchmarks"

_PACKAGES = {
    "datatrove": ["datatrove[processing,io]==0.10.1", "lxml_html_clean", "spacy"],
    # it needs numpy 1, which newer ones of the rest refuse
    "text-dedup": ["numpy<2", "pyarrow<20", "pandas<3", "datasets<4", "text-dedup==0.4.0"],
}

Timing = dict[str, Any]  # wall, processor (seconds with all children), and what the process said


def peer(name: str) -> str:
    """Python of the peer's own environment."""
    return str(peers.python_of(name, *_PACKAGES[name]))


def version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def timed(command: Sequence[str], log: Path) -> Timing:
    """Run `command` with all it starts, one thread a process; the last line it prints may be JSON with more figures.

    Of these `not waited for` are seconds of processors of children that end by themselves: they are counted to the rest.

    Raises RuntimeError with the log's end where it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("wb") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment)
        assert child.stdout is not None
        printed = child.stdout.read().decode("utf-8", "replace").strip()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-3000:]}\n{printed[-1000:]}")
    last = printed.rsplit("\n", 1)[-1]
    said = json.loads(last) if last.startswith("{") else {}
    processor = usage.ru_utime + usage.ru_stime + said.pop("not waited for", 0.0)
    timing = {"wall": wall, "processor": processor, **said}
    print(f"  {Path(log).stem}: {wall:.1f} s, {timing['processor']:.1f} s of processors", flush=True)
    return timing


def own_peak() -> float:
    """MiB that this process held at most (not what its parent held before it became this program, as ru_maxrss counts)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:", 1)[1].split()[0]) / 1024


def publish(name: str, rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Print `rows` as a table and the `figures`, and save all of it.

    `load` is how many processes wanted a core over the last 1, 5 and 15 minutes: others may have worked here too.
    """
    print("\n" + peers.table(list(rows[0]), [list(row.values()) for row in rows]) + "\n")
    for key, value in figures.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    load = [round(value, 1) for value in os.getloadavg()]
    peers.save(name, {"date": date, "load": load, "about": about, "rows": rows, "figures": figures})


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"runs of each, interleaved; medians are taken (default: {repeats})")
    parser.add_argument("--quick", action="store_true", help="a small input and one run of each: shows that it works, measures little")
    return parser
