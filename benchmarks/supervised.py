"""What the benchmarks `sft` and `reward` share: models and data, our trainer and TRL 1.16's in turn, medians.

One process and one thread each, float32, the same Llamas (tiny: the recipe tiny's; small: width 512, 6 layers), the same
tokens, batches of 16 examples, AdamW. The data are the bundled preferences: the best answer for SFT, best against worst
for the reward model. Steps are timed one by one; the first three and the last are left out, the median counts. Both shuffle by their own
seed: one batch's losses are not alike, so the loss is the mean of the last ten steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import peers

ROOT = Path(__file__).parents[1]
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "layers": 3, "heads": 4, "context_length": 256},
    "small": {"hidden_size": 512, "layers": 6, "heads": 8, "context_length": 256},
}
BATCH, LENGTH, LAST, WANTED = 16, 96, 10, 1.2
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}


def main(kind: str, description: str | None) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--steps", type=int, default=32, help="a run (32: one epoch); the first three and the last are not timed")
    parser.add_argument("--only", choices=list(SIZES))
    options = parser.parse_args()
    rows, results = [], {}
    for size in [options.only] if options.only else list(SIZES):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), kind, SIZES[size])
            runs = peers.interleaved(
                {
                    "crawl2chat": lambda folder=folder: ours(Path(folder), kind, options.steps),
                    "trl": lambda folder=folder: trl(Path(folder), kind, options.steps),
                },
                options.repeats,
            )
        found = {way: {key: peers.median(of, key) for key in ("seconds", "cpu_seconds", "peak_mb", "loss")} for way, of in runs.items()}
        ratio, cpu_ratio = (found["trl"][key] / found["crawl2chat"][key] for key in ("seconds", "cpu_seconds"))
        peak_ratio = found["crawl2chat"]["peak_mb"] / found["trl"]["peak_mb"]
        results[size] = {"ways": found, "ratio": ratio, "cpu_ratio": cpu_ratio, "peak_ratio": peak_ratio}
        rows += [[size, way, *values.values()] for way, values in found.items()]
    print(peers.table(["model", "by", "s a step", "CPU s a step", "peak MB", f"loss, last {LAST} steps"], rows))
    for size, found in results.items():
        print(f"{size}: {found['ratio']:.2f} times TRL, {found['cpu_ratio']:.2f} in CPU time (wanted: {WANTED}); peak memory {found['peak_ratio']:.2f} of TRL's")
    print(peers.save_parts(kind, results, steps=options.steps, repeats=options.repeats))


def prepare(folder: Path, kind: str, model: dict[str, Any]) -> None:
    """model/ (untrained), data/{train,eval}.jsonl for ours, tokens.json with the same tokens for TRL."""
    os.environ.update(HF_HUB_OFFLINE="1", **ENVIRONMENT)
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.records import Record, Turn
    from rlhf_core.dataset.vocabulary import train_tokenizer
    from rlhf_core.models.networks import fresh_policy
    from rlhf_core.settings import FreshModel, TokenizerSettings

    raw = [json.loads(line) for line in (ROOT / "data" / "samples" / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    records = [
        Record(str(n), None, (Turn("user", r["instruction"]),), responses=tuple(a["text"] for a in r["responses_best_first"]))
        for n, r in enumerate(raw[:512])
    ]
    shard = folder / "part-00000.parquet"
    texts = [text for record in records for text in (record.turns[-1].text, *record.responses)]
    pq.write_table(pa.table({"lang": ["en"] * len(texts), "text": texts}), shard)
    train_tokenizer([shard], TokenizerSettings(vocab_size=2048), folder / "tokenizer")
    chat = load_chat(str(folder / "tokenizer"))
    fresh_policy(FreshModel(**model), chat, 1).save(folder / "model", chat)
    lines, tokens = [], []
    for record in records:
        turns = [{"role": turn.role, "text": turn.text} for turn in record.turns]
        best, worst = record.responses[0], record.responses[-1]
        first, last = (part.cut(LENGTH) for part in chat.conversations([record.answered(best), record.answered(worst)]))
        line: dict[str, Any] = {"id": record.id, "system": record.system, "turns": turns}
        if kind == "sft":
            line["turns"] = [*turns, {"role": "assistant", "text": best}]
            tokens.append({"input_ids": first.ids, "completion_mask": [int(m) for m in first.mask]})
        else:
            line["responses"] = [best, worst]
            tokens.append({"chosen_ids": first.ids, "rejected_ids": last.ids})
        lines.append(json.dumps(line, ensure_ascii=False))
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "data" / "eval.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")


def ours(folder: Path, kind: str, steps: int) -> dict[str, Any]:
    stage = {
        "kind": kind, "name": "stage", "steps": steps, "eval_steps": steps, "checkpoint_steps": 10**6, "batch_size": BATCH,
        "max_length": LENGTH, "optimizer": {"learning_rate": 1e-3, "schedule": "constant", "warmup_share": 0.0},
        "launch": {"threads": 1},
    }  # fmt: skip
    inputs = {"init": str(folder / "model"), "data": str(folder / "data")}
    with tempfile.TemporaryDirectory() as out:
        job = {"stage": stage, "inputs": inputs, "output": f"{out}/out", "work": f"{out}/work"}
        path = Path(out) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        return _figures(peers.run_json([sys.executable, "-m", "benchmarks._supervised_ours", str(path)], **ENVIRONMENT))


def trl(folder: Path, kind: str, steps: int) -> dict[str, Any]:
    python = peers.python_of("trl-1.16", peers.TORCH, "trl==1.16.0")
    script = Path(__file__).with_name("_supervised_trl.py")
    with tempfile.TemporaryDirectory() as out:
        options = {"kind": kind, "folder": str(folder), "steps": steps, "batch": BATCH, "length": LENGTH, "out": out}
        return _figures(peers.run_json([str(python), str(script), json.dumps(options)], **ENVIRONMENT))


def _figures(run: dict[str, Any]) -> dict[str, Any]:
    medians = {key: statistics.median(run[key][2:]) for key in ("seconds", "cpu_seconds")}
    return {**medians, "peak_mb": run["peak_mb"], "loss": statistics.fmean(run["losses"][-LAST:])}
