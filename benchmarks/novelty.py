"""ROUGE-L novelty against a pool: this project's index beside plain loops over rouge-score. `python -m benchmarks.novelty [--quick]`.

The pool holds instructions in English and Chinese: the real ones of ../shared/real where they are at hand, else sentences of the
samples, and beyond them variants with words exchanged until the pool is full. Candidates are half new mixtures of words, half
near copies. Two loops are the peers, on one core and with the same tokens: Self-Instruct's (`RougeScorer.score` for every pair,
which tokenizes both texts again) and Alpaca's (texts tokenized once, `_score_lcs` for every pair). All three must decide the
same, to the last bit of the score. The larger pool is tried with the index alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import save, table
from data.instructions.formats import read_conversations, read_preferences
from data.instructions.novelty import Match, Pool, tokens

THRESHOLD = 0.7  # Self-Instruct
ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"


class Tokenizer:
    """The project's tokens in rouge_score's form: its own tokenizer finds none in Chinese."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a pool of 1,000 and fewer candidates")
    options = parser.parse_args()
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        print("error: rouge-score is not installed; it is part of the extra `test`: pip install -e '.[test]'", file=sys.stderr)
        return 2
    sizes, asked = ((1000, 10_000), 4) if options.quick else ((5000, 50_000), 10)  # the loops take seconds a candidate
    texts, source = instructions(sizes[1])
    small, candidates = texts[: sizes[0]], queries(texts[: sizes[0]], asked)
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Tokenizer())
    tokenized = [tokens(text) for text in small]

    def self_instruct(text: str) -> Match | None:
        return highest([scorer.score(other, text)["rougeL"].fmeasure for other in small])

    def alpaca(text: str) -> Match | None:
        query = tokens(text)
        return highest([rouge_scorer._score_lcs(other, query).fmeasure for other in tokenized])

    pool = filled(small)
    ways: dict[str, Callable[[str], Match | None]] = {"index": pool.closest, "Alpaca's loop": alpaca, "Self-Instruct's loop": self_instruct}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    decisions: dict[str, list[Match | None]] = {name: [] for name in ways}
    for text in candidates:  # in turn: what else the machine does falls on all alike
        for name, way in ways.items():
            taken, found = timed(way, [text])
            seconds[name].append(taken)
            decisions[name] += found
    same = all(decided == decisions["index"] for decided in decisions.values())
    median = {name: statistics.median(runs) for name, runs in seconds.items()}
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "rouge_score": importlib.metadata.version("rouge-score"), "texts": source, "threshold": THRESHOLD,
        "pool": sizes[0], "candidates": asked, "not_novel": sum(match is not None for match in decisions["index"]), "same_decisions": same,
        "milliseconds_a_candidate": {name: value * 1e3 for name, value in median.items()},
        "times_faster": {name: median[name] / median["index"] for name in ways if name != "index"},
        "pairs_scored_share": pool.scored / (asked * sizes[0]),
        "large_pool": large(texts, 400),
        "timing": "median of the candidates, one core",
    }  # fmt: skip
    rows = [(name, sizes[0], median[name] * 1e3, median[name] / median["index"]) for name in ways]
    big = result["large_pool"]
    rows.append(("index", sizes[1], big["milliseconds_a_candidate"], None))
    print(table(("novelty", "pool", "ms a candidate", "times the index"), [tuple("" if cell is None else cell for cell in row) for row in rows]))
    print(f"same decisions and scores: {same}; {result['not_novel']} of {asked} candidates not novel; texts: {source}")
    print(f"a pool of {sizes[1]:,} filled one by one, each text tested first: {big['fill_seconds']:.1f} s")
    print(save("novelty", result))
    return 0 if same else 1


def large(texts: list[str], asked: int) -> dict[str, float]:
    """The index at full size: grown as self-instruct grows it, every text tested before it joins."""
    pool, started = Pool(THRESHOLD), time.perf_counter()
    for text in texts:
        pool.closest(text)
        pool.add(text)
    fill = time.perf_counter() - started
    taken, _ = timed(pool.closest, queries(texts, asked))
    return {"pool": len(pool), "fill_seconds": fill, "milliseconds_a_candidate": taken / asked * 1e3}


def timed(way: Callable[[str], Match | None], candidates: list[str]) -> tuple[float, list[Match | None]]:
    started = time.perf_counter()
    found = [way(text) for text in candidates]
    return time.perf_counter() - started, found


def highest(scores: list[float]) -> Match | None:
    best = max(scores)
    return Match(scores.index(best), best) if best > THRESHOLD else None


def filled(texts: list[str]) -> Pool:
    pool = Pool(THRESHOLD)
    for text in texts:
        pool.add(text)
    return pool


def instructions(count: int) -> tuple[list[str], str]:
    """`count` instructions, and where they are from."""
    files = [REAL / name for name in ("seed_tasks_en.jsonl", "seed_tasks_zh.jsonl", "instructions_zh_eval.jsonl")]
    texts: list[str] = []
    if REAL.is_dir():
        for path in files:
            texts += [record.turns[0].text for record in read_conversations(path).records]
        texts += [record.turns[0].text for record in read_preferences(REAL / "ranked_responses_en.jsonl").records]
    else:
        samples = ROOT / "data" / "samples"
        texts += [record.turns[0].text for record in read_conversations(samples / "seed_tasks.jsonl").records]
        texts += [record.turns[0].text for record in read_preferences(samples / "preferences.jsonl").records]
    texts = [text for text in dict.fromkeys(texts) if 3 < len(tokens(text)) <= 150]  # Self-Instruct's own lengths
    real = len(texts)
    rng = random.Random(1)  # noqa: S311  # no secret
    originals = list(texts)
    while len(texts) < count:
        texts.append(variant(rng, rng.choice(originals), originals, rng.uniform(0.3, 0.9)))
    rng.shuffle(texts)
    return texts[:count], f"{min(real, count)} {'real' if REAL.is_dir() else 'sample'} instructions, the rest variants of them"


def queries(texts: list[str], count: int) -> list[str]:
    """Half near copies of the pool's texts (a tenth of the words exchanged), half new mixtures of words."""
    rng = random.Random(2)  # noqa: S311
    return [variant(rng, rng.choice(texts), texts, 0.1 if number % 2 else 0.7) for number in range(count)]


def variant(rng: random.Random, text: str, others: list[str], share: float) -> str:
    """`text` with a share of its tokens exchanged for tokens of another text."""
    words, foreign = tokens(text), tokens(rng.choice(others))
    joint = "" if sum(len(word) == 1 for word in words) > len(words) / 2 else " "
    return joint.join(rng.choice(foreign) if foreign and rng.random() < share else word for word in words)


if __name__ == "__main__":
    sys.exit(main())
