"""PPO beside TRL 1.12's experimental PPO: `python -m benchmarks.ppo [--repeats N] [--steps N]`.

One process and one thread each, the same models, prompts, batch and settings, run in turn; medians over iterations,
then over runs. TRL lives in an environment of its own (made on the first call: minutes). Two settings:

- opt: OPT, 3 layers, width 128, vocabulary 512; 64 prompts of 16 tokens, 24 new tokens, one PPO epoch, bf16. TRL is
  taken in the faster of its two ways: weights in bf16, or autocast.
- llama: the model of the recipe tiny (3 layers, width 128, vocabulary 2048), fp32, two PPO epochs.

The rewards are compared at equal steps and seeds: the mean score of the last quarter of the iterations (a single one of
64 answers is known to about 0.12), with Student's 95% interval over the seeds; on a reward model with random weights, the
same for both. `--repeats 3 --steps 40` shows it; the default measures speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks import peers
from rlhf_core.dataset.vocabulary import SPECIAL_TOKENS, save_tokenizer
from rlhf_core.measures.statistics import mean_interval

BATCH, PROMPT, NEW, VOCABULARY = 64, 16, 24, {"opt": 512, "llama": 2048}
SETTINGS: dict[str, dict[str, Any]] = {
    "opt": {"epochs": 1, "ours": "bf16", "trl": ["bf16", "amp"], "wanted": 2.8},
    "llama": {"epochs": 2, "ours": "fp32", "trl": ["fp32"], "wanted": 2.0},
}
RATE, KL_COEF = 1e-3, 0.05  # at 3e-4 forty iterations move the score by less than the seeds lie apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; run n has seed n")
    parser.add_argument("--steps", type=int, default=8, help="iterations a run; the first two are not timed")
    parser.add_argument("--only", choices=list(SETTINGS))
    parser.add_argument("--ours", action="store_true", help="leave TRL out")
    options = parser.parse_args()
    results = {}
    for name in [options.only] if options.only else list(SETTINGS):
        results[name] = compare(name, options.repeats, options.steps, options.ours)
        print(json.dumps(results[name]), file=sys.stderr)
    if options.ours:
        return
    rows = [
        [name, way, *(r[key] for key in ("seconds", "cpu_seconds", "tokens_per_second", "peak_mb", "first_score", "score", "score_low", "score_high", "kl"))]
        for name, found in results.items()
        for way, r in found["ways"].items()
    ]
    print(peers.table(["setting", "by", "s an iteration", "CPU s", "response tokens/s", "peak MB", "first score", "last scores", "from", "to", "KL"], rows))
    for name, found in results.items():
        print(
            f"{name}: {found['ratio']:.2f} times TRL, {found['cpu_ratio']:.2f} in CPU time (wanted: {SETTINGS[name]['wanted']}); "
            f"peak memory {found['peak_ratio']:.2f} of TRL's; score less that of the better TRL {found['score_gain']:+.2f}"
        )
    print(peers.save_parts("ppo", results, steps=options.steps, repeats=options.repeats))


def compare(name: str, repeats: int, steps: int, alone: bool) -> dict[str, Any]:
    """The figures of both, and TRL's seconds over ours."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), name)
        ways: dict[str, Any] = {"crawl2chat": lambda seed: ours(Path(folder), name, steps, seed)}
        for dtype in [] if alone else SETTINGS[name]["trl"]:
            ways[f"trl {dtype}"] = lambda seed, dtype=dtype: trl(Path(folder), name, steps, seed, dtype)
        seeds = {way: iter(range(1, repeats + 1)) for way in ways}
        found = peers.interleaved({way: lambda way=way: ways[way](next(seeds[way])) for way in ways}, repeats)
    figures = {way: _figures(runs) for way, runs in found.items()}
    result: dict[str, Any] = {"ways": figures}
    if not alone:
        best = min(r["seconds"] for way, r in figures.items() if way != "crawl2chat")
        result["ratio"] = best / figures["crawl2chat"]["seconds"]
        # of processor time: what remains of the ratio on a busy machine
        busy = min(r["cpu_seconds"] for way, r in figures.items() if way != "crawl2chat")
        result["cpu_ratio"] = busy / figures["crawl2chat"]["cpu_seconds"]
        others = [r for way, r in figures.items() if way != "crawl2chat"]
        result["peak_ratio"] = figures["crawl2chat"]["peak_mb"] / min(r["peak_mb"] for r in others)
        result["score_gain"] = figures["crawl2chat"]["score"] - max(r["score"] for r in others)
    return result


def _figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, busy = (
        statistics.median(statistics.median(run[key][1:]) for run in runs) for key in ("seconds", "cpu_seconds")
    )
    scores = [_last(run["scores"]) for run in runs]
    interval = mean_interval(scores)
    low, high = (interval.low, interval.high) if len(scores) > 1 else (None, None)
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "tokens_per_second": BATCH * NEW / seconds,
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
        "score": interval.value,
        "score_low": low,
        "score_high": high,
        "scores_by_seed": scores,
        "first_score": statistics.mean(run["scores"][0] for run in runs),
        "kl": statistics.mean(_last(run["kl"]) for run in runs),
    }


def _last(values: list[float]) -> float:
    """The mean of the last quarter, of three at least."""
    return statistics.mean(values[-max(3, len(values) // 4) :])


def ours(folder: Path, name: str, steps: int, seed: int) -> dict[str, Any]:
    out = folder / f"ours{seed}"
    stage = {
        "kind": "ppo", "name": "ppo", "reward_model": "reward", "steps": steps, "batch_size": BATCH, "seed": seed,
        "max_prompt_length": PROMPT, "max_new_tokens": NEW, "ppo_epochs": SETTINGS[name]["epochs"],
        "precision": SETTINGS[name]["ours"], "kl_coef": KL_COEF, "value_learning_rate": RATE,
        "optimizer": {"learning_rate": RATE, "schedule": "constant", "warmup_share": 0.0, "betas": [0.9, 0.999],
                      "clip_grad_norm": 1e9},  # TRL's PPO clips no gradient
        "reward_normalisation": "none", "reward_clip": 1e6, "missing_end_penalty": 0.0, "watched_patterns": [],
        "eval_steps": steps, "eval_prompts": 1, "checkpoint_steps": 10**6, "launch": {"threads": 1},
    }  # fmt: skip
    inputs = {"init": "policy", "reward_model": "reward", "data": "data"}
    job = {
        "stage": stage, "inputs": {role: str(folder / name) for role, name in inputs.items()},
        "output": str(out), "work": str(out / "work"),
    }  # fmt: skip
    job_file = folder / f"job{seed}.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    return peers.run_json([sys.executable, "-m", "benchmarks._ppo_ours", str(job_file)], OMP_NUM_THREADS="1")


def trl(folder: Path, name: str, steps: int, seed: int, dtype: str) -> dict[str, Any]:
    python = peers.python_of("trl-1.12", peers.TORCH, "trl==1.12.0")
    options = {
        "policy": str(folder / "policy"), "reward": str(folder / "reward"), "prompts": str(folder / "prompts.json"),
        "out": str(folder / "trl"), "seed": seed, "steps": steps, "batch": BATCH, "new_tokens": NEW, "dtype": dtype,
        "epochs": SETTINGS[name]["epochs"], "rate": RATE, "kl_coef": KL_COEF,
    }  # fmt: skip
    script = Path(__file__).with_name("_ppo_trl.py")
    return peers.run_json([str(python), str(script), json.dumps(options)], OMP_NUM_THREADS="1")


def prepare(folder: Path, name: str) -> None:
    """policy/, reward/, data/{train,eval}.jsonl and prompts.json (the same prompts as token ids)."""
    from rlhf_core.dataset.chat_template import load_chat

    words = VOCABULARY[name] - len(SPECIAL_TOKENS)
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *(f"w{i}" for i in range(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))  # noqa: S106 - a word, no secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    for part in ("policy", "reward"):
        save_tokenizer(tokenizer, folder / part)
    chat = load_chat(str(folder / "policy"))
    policy, reward = _models(name, chat)
    policy.save_pretrained(folder / "policy")
    reward.save_pretrained(folder / "reward")
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, words, (4 * BATCH, PROMPT - 3), generator=generator).tolist()
    records = [
        {"id": str(i), "turns": [{"role": "user", "text": " ".join(f"w{word}" for word in row)}]}
        for i, row in enumerate(drawn)
    ]
    (folder / "data").mkdir()
    for part, chosen in (("train", records), ("eval", records[:1])):
        text = "".join(json.dumps(record) + "\n" for record in chosen)
        (folder / "data" / f"{part}.jsonl").write_text(text, encoding="utf-8")
    ids = chat.tokenizer([f"<|user|> {record['turns'][0]['text']}<|end|><|assistant|>" for record in records])["input_ids"]
    assert {len(row) for row in ids} == {PROMPT}, {len(row) for row in ids}
    (folder / "prompts.json").write_text(json.dumps(ids), encoding="utf-8")


def _models(name: str, chat: Any) -> tuple[Any, Any]:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        OPTConfig,
        OPTForCausalLM,
        OPTForSequenceClassification,
    )

    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY[name], "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "bos_token_id": None, "eos_token_id": chat.end_id, "pad_token_id": chat.pad_id, "max_position_embeddings": 256,
    }  # fmt: skip
    torch.manual_seed(1)
    if name == "opt":
        opt = OPTConfig(**shared, ffn_dim=512, word_embed_proj_dim=128, dropout=0.0, num_labels=1)
        policy, reward = OPTForCausalLM(opt), OPTForSequenceClassification(opt)
    else:
        llama = LlamaConfig(**shared, intermediate_size=352, tie_word_embeddings=True, num_labels=1)
        policy, reward = LlamaForCausalLM(llama), LlamaForSequenceClassification(llama)
    with torch.no_grad():
        reward.score.weight.mul_(8)  # scores of deviation about 1
    return policy, reward


if __name__ == "__main__":
    main()
