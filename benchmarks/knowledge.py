"""Multiple choice beside lm-evaluation-harness 0.4.13: `python -m benchmarks.knowledge [--repeats N] [--quick]`.

The same untrained Llamas (tiny: the recipe tiny's; small: width 512, 6 layers, vocabulary 8000), the same files (facts of the
samples' world, five examples before each question), one thread, fp32, run in turn. Timed is what each does with the model: the
tokens of the questions and their probabilities; reading files, starting and adding up are left out of both. lm-eval runs with
batches of 8, 32 and 128 questions once, and the one that took the least processor time is repeated beside ours and counts. It lives in an environment of its own (made on the first call:
minutes). `same_answers` is the share of questions with the same chosen letter, `apart` the largest difference of a probability.
"""

from __future__ import annotations

import csv
import math
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measuring, peers
from data.samples.english import ENGLISH
from data.samples.phrasing import ask
from data.samples.world import RELATIONS, facts, value_of

SHOTS, WANTED = 5, 1.5
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"model": {"hidden_size": 128, "layers": 3, "heads": 4, "context_length": 1024}, "vocabulary": 2048, "subjects": 8, "questions": 20},
    "small": {"model": {"hidden_size": 512, "layers": 6, "heads": 8, "context_length": 1024}, "vocabulary": 8000, "subjects": 2, "questions": 8},
}
BATCHES = (8, 32, 128)  # lm-eval's, in questions; ours is in tokens, the default of a recipe
PEER = ("transformers==5.23.0", "datasets>=4,<6", "accelerate", "lm-eval==0.4.13")


def main() -> None:
    parser = measuring.arguments(__doc__ or "", repeats=3)
    parser.add_argument("--only", choices=list(MODELS))
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    rows: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for name in [options.only] if options.only else list(MODELS):
        found = compare(name, *((1, 5, BATCHES[1:2]) if options.quick else (options.repeats, MODELS[name]["questions"], BATCHES)))
        rows += found.pop("rows")
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    about = {"lm-eval": "0.4.13", "shots": SHOTS, "wanted": WANTED, "threads": 1}
    measuring.publish("knowledge", rows, figures, about)


def compare(name: str, repeats: int, questions: int, batches: Sequence[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        asked = write_questions(folder / "files", MODELS[name]["subjects"], questions)
        write_model(folder, MODELS[name])
        python = str(peers.python_of("lm-eval", peers.TORCH, *PEER))
        script = str(Path(__file__).with_name("_knowledge_lm_eval.py"))
        given = [str(folder / "model"), str(folder / "files"), str(SHOTS)]
        own = [peers.run_json([sys.executable, "-m", "benchmarks._knowledge_ours", *given, "8192"])]
        first = peers.run_json([python, script, *given, *map(str, batches)])
        fastest = min(first, key=lambda size: first[size]["processor"])
        lm_eval = {size: [run] for size, run in first.items()}
        for _ in range(repeats - 1):  # in turn: what the machine does beside them falls on both alike
            own.append(peers.run_json([sys.executable, "-m", "benchmarks._knowledge_ours", *given, "8192"]))
            lm_eval[fastest].append(peers.run_json([python, script, *given, fastest])[fastest])
    ours, theirs = ({key: peers.median(runs, key) for key in ("wall", "processor")} for runs in (own, lm_eval[fastest]))
    ways = {"crawl2chat": own} | {f"lm-eval, batches of {size}": runs for size, runs in lm_eval.items()}
    rows = [
        {"model": name, "by": way, "questions/s": asked / peers.median(runs, "wall"), "questions/s of processor": asked / peers.median(runs, "processor")}
        for way, runs in ways.items()
    ]
    agreed, apart = agreement(own[0]["logprobs"], lm_eval[fastest][0]["logprobs"])
    return {
        "rows": rows,
        "questions": asked,
        "faster": theirs["wall"] / ours["wall"],
        "faster_by_processor": theirs["processor"] / ours["processor"],
        "same_answers": agreed,
        "apart": apart,
    }


def agreement(ours: dict[str, list[list[float]]], theirs: dict[str, list[list[float]]]) -> tuple[float, float]:
    """(share of questions with the same chosen letter, largest difference of a probability)."""
    assert ours.keys() == theirs.keys()
    pairs = [pair for name in ours for pair in zip(ours[name], theirs[name], strict=True)]
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs) / len(pairs)
    return same, max(abs(math.exp(x) - math.exp(y)) for a, b in pairs for x, y in zip(a, b, strict=True))


def write_questions(folder: Path, subjects: int, count: int) -> int:
    """Files in MMLU's layout, a subject a relation, `count` questions each; returns how many there are in all."""
    rng = random.Random(1)  # noqa: S311 - no secret
    total = 0
    for relation in list(RELATIONS)[:subjects]:
        own = [fact for fact in facts("en") if fact.relation == relation]
        phrasings = ENGLISH.relations[relation].asked
        rows = []
        for fact in own:
            for template in phrasings:
                options = [fact.value, *(value_of("en", relation, fact.index + step) for step in rng.sample(range(1, 8), 3))]
                rng.shuffle(options)
                rows.append([ask(template, fact), *options, "ABCD"[options.index(fact.value)]])
        rng.shuffle(rows)
        for split, part in (("dev", rows[:SHOTS]), ("test", rows[SHOTS : SHOTS + count])):
            path = folder / split / f"{relation}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows(part)
        total += len(rows[SHOTS : SHOTS + count])
    return total


def write_model(folder: Path, shape: dict[str, Any]) -> None:
    """model/: an untrained Llama with a vocabulary of the questions."""
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.vocabulary import train_tokenizer
    from rlhf_core.models.networks import fresh_policy
    from rlhf_core.settings import FreshModel, TokenizerSettings

    texts = [path.read_text(encoding="utf-8") for path in sorted((folder / "files").glob("*/*.csv"))]
    texts += [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parents[1] / "data" / "samples" / "trusted").glob("*.txt"))]
    shard = folder / "part-00000.parquet"
    pq.write_table(pa.table({"lang": ["en"] * len(texts), "text": texts}), shard)
    train_tokenizer([shard], TokenizerSettings(vocab_size=shape["vocabulary"]), folder / "tokenizer")
    chat = load_chat(str(folder / "tokenizer"))
    fresh_policy(FreshModel(**shape["model"]), chat, 1).save(folder / "model", chat)


if __name__ == "__main__":
    main()
