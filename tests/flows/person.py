"""The command line as a person calls it, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.conftest import ROOT

FEW_STEPS = [
    "pretrain.steps=60", "pretrain.checkpoint_steps=10", "sft.epochs=null", "sft.steps=6", "reward_model.epochs=null",
    "reward_model.steps=4", "ppo.steps=2", "ppo.eval_prompts=8", "evaluation.max_prompts=8", "sft.launch.ranks=1", "reward_model.launch.ranks=1", "ppo.launch.ranks=1",
]  # fmt: skip

# Stage of the tiny recipe -> the figures that its report holds at least.
FIGURES = {
    "pretrain": ["loss", "perplexity", "bits_per_byte"],
    "sft": ["exact_match"],
    "reward_model": ["accuracy"],
    "ppo": ["reward_before", "reward_after", "kl", "win_rate", "exact_match"],
}


def command(store: Path, *arguments: str, steps: list[str] = FEW_STEPS) -> list[str]:
    overrides = [part for step in steps for part in ("--set", step)]
    return [sys.executable, "-m", "flows.full_pipeline", "--store", str(store), *overrides, *arguments]


def environment(home: Path, server: str | None = None) -> dict[str, str]:
    """A person's environment: a temporary Prefect server a run, or the one at `server`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    kept |= {"PREFECT_API_URL": server} if server else {}
    return kept | {"PREFECT_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}


def run(
    store: Path, home: Path, *arguments: str, steps: list[str] = FEW_STEPS, server: str | None = None
) -> subprocess.CompletedProcess[str]:
    line = command(store, *arguments, steps=steps)
    return subprocess.run(line, cwd=ROOT, env=environment(home, server), capture_output=True, text=True, timeout=900)


def table(output: str) -> dict[str, str]:
    """Stage -> made or reused, from the closing table."""
    lines = output[output.rindex("stage  ") :].splitlines()
    return {line.split()[0]: line.split()[-1] for line in lines if line.split()[-1:] in (["made"], ["reused"])}


def ranks(work: Path) -> list[psutil.Process]:
    """Living processes of training jobs that write their log below `work`, whoever launched them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "rlhf_core." not in " ".join(process.info["cmdline"] or []):
            continue
        with contextlib.suppress(psutil.Error):
            if any(Path(file.path).name == "job.log" and Path(file.path).is_relative_to(work) for file in process.open_files()):
                found.append(process)
    return found
