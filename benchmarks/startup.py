"""What starting and ending a training job costs, on CPUs: `python -m benchmarks.startup [--repeats N] [--ranks N]`.

A job of three SFT steps on a model of width 32 is launched three ways, in turn: by the `deepspeed` command, by a fresh
launcher (rlhf_core/job/launcher.py: the first job of a run), and by a launcher that has already served one (all later
jobs). Seconds from launch to the first line of metrics.jsonl, and from its last line to the job's end; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers, trainers

from benchmarks import peers
from tasks import jobs, launching
from tasks.jobs import Limits, deepspeed_command, environment, run_job
from tasks.launching import Forked

STEPS = 3
WAYS = ("deepspeed", "fresh launcher", "warm launcher")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()
    jobs.POLL_SECONDS = 0.02
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepare(Path(folder))
        measured: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for repeat in range(options.repeats + 1):
            for way in WAYS:
                seconds = measure(way, Path(folder) / f"{way.split()[0]}{repeat}", inputs, options.ranks)
                if repeat:  # the first round fills the disk's cache
                    measured[way].append(seconds)
    rows = {way: [statistics.median(column) for column in zip(*found, strict=True)] for way, found in measured.items()}
    print(f"{'':16} {'to the first step':>18} {'after the last':>15}   seconds, medians of {options.repeats}, {options.ranks} ranks")
    for way, (first, last) in rows.items():
        print(f"{way:16} {first:18.2f} {last:15.2f}")
    results = {way: {"first_step_seconds": round(a, 2), "end_seconds": round(b, 2)} for way, (a, b) in rows.items()}
    print(peers.save("startup", {"ranks": options.ranks, "repeats": options.repeats, "median": results}))


def measure(way: str, folder: Path, inputs: dict[str, str], ranks: int) -> tuple[float, float]:
    """Seconds (launch to first step, last step to end)."""
    folder.mkdir()
    stage = {
        "kind": "sft", "name": "sft", "steps": STEPS, "eval_steps": STEPS, "launch": {"ranks": ranks, "threads": 1},
    }  # fmt: skip
    job = {"stage": stage, "inputs": inputs, "output": str(folder / "out"), "work": str(folder)}
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    command: Any = Forked("rlhf_core.train", job_file, ranks)
    if way == "deepspeed":
        command = deepspeed_command("rlhf_core.train", job_file, ranks, None)
    if way == "fresh launcher":
        launching.close_all()
    seen: list[float] = []
    began = time.monotonic()
    log, metrics = folder / "out" / "job.log", folder / "out" / "metrics.jsonl"
    run_job(command, log, metrics, environment(ranks, 1), Limits(600, 600), lambda line: seen.append(time.monotonic()))
    ended = time.monotonic()
    return seen[0] - began, ended - seen[-1]


def prepare(folder: Path) -> dict[str, str]:
    """A tokenizer, a model and conversations; the inputs of an SFT job."""

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.vocabulary import SPECIAL_TOKENS, new_tokenizer, save_tokenizer
    from rlhf_core.models.networks import fresh_policy
    from rlhf_core.settings import FreshModel


    tokenizer = new_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["a word and another word"] * 9, trainer)
    save_tokenizer(tokenizer, folder / "model")
    chat = load_chat(str(folder / "model"))
    fresh_policy(FreshModel(hidden_size=32, layers=2, heads=2), chat, 1).save(folder / "model", chat)
    turns = [{"role": "user", "text": "Say a word."}, {"role": "assistant", "text": "Another word."}]
    line = json.dumps({"id": "1", "system": None, "turns": turns}) + "\n"
    (folder / "data").mkdir()
    for part in ("train", "eval"):
        (folder / "data" / f"{part}.jsonl").write_text(line * 64, encoding="utf-8")
    return {"init": str(folder / "model"), "data": str(folder / "data")}


if __name__ == "__main__":
    main()
