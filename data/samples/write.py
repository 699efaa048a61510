"""Writes every file of data/samples that is data: `python -m data.samples.write [FOLDER]`.

The same bytes come out each time: all choices follow from SEED, and compressed members carry no time.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from data.samples.completions import completion_lines, completions
from data.samples.crawl import crawl_files, trusted_files
from data.samples.knowledge import knowledge_files
from data.samples.preferences import preferences
from data.samples.seeds import SEED_TASKS
from data.samples.tasks import Prompts, deal, good_tasks, jsonl, questions
from data.samples.world import LANGS, Lang

SEED = 20260306
HERE = Path(__file__).parent


def all_files(seed: int = SEED) -> dict[str, bytes]:
    """Contents by path relative to data/samples."""
    return crawl_files(seed) | trusted_files(seed + 1) | task_files(seed + 2) | knowledge_files(seed + 3)


def task_files(seed: int) -> dict[str, bytes]:
    """Seed tasks, completions, preferences and questions, by the names of their files."""
    rng = random.Random(seed)
    prompts: dict[Lang, Prompts] = {lang: deal(lang, rng) for lang in LANGS}
    good = good_tasks(prompts, rng)
    records, truth = completion_lines(completions(good, rng))
    return {
        "seed_tasks.jsonl": jsonl(SEED_TASKS),
        "completions.jsonl": jsonl(records),
        "completions_truth.jsonl": jsonl(truth),
        "preferences.jsonl": jsonl(preferences(prompts, rng)),
        "questions.jsonl": jsonl(questions()),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the samples of the offline default.")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, help="where to (default: beside this script)")
    folder: Path = parser.parse_args(argv).folder
    for name, content in all_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"{len(content):>9,}  {name}")


if __name__ == "__main__":
    main()
