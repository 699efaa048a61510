"""Real seed tasks, instructions and rankings: nothing is lost, everything that is left out is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from data.instructions.formats import read_conversations, read_preferences
from data.instructions.seeds import read_seeds
from data.instructions.settings import SplitSettings
from data.instructions.splits import STEPS, split

REAL = Path(__file__).parents[4] / "shared" / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")


@pytest.mark.parametrize(("name", "least", "lang"), [("seed_tasks_en.jsonl", 175, "en"), ("seed_tasks_zh.jsonl", 172, "zh")])
def test_seed_tasks(name: str, least: int, lang: str) -> None:
    seeds = read_seeds(REAL / name)
    assert (len(seeds.tasks), seeds.rejected) == (175, [])
    languages = Counter(task.lang for task in seeds.tasks)
    assert languages[lang] >= least  # three of the Chinese ones are instructions in English
    for task, line in zip(seeds.tasks, (REAL / name).read_text("utf-8").splitlines(), strict=True):
        value = json.loads(line)
        assert task.instruction == value["instruction"].strip()
        assert task.output == value["instances"][0]["output"].strip()


def test_chinese_questions() -> None:
    reading = read_conversations(REAL / "instructions_zh_eval.jsonl")
    assert (len(reading.records), reading.rejected, reading.formats) == (1000, [], {"question": 1000})
    assert sum("reference" in record.labels for record in reading.records) == 631  # the others have no answer
    assert len({record.id for record in reading.records}) == 1000
    assert all("class" in record.labels for record in reading.records)


def test_ranked_responses() -> None:
    path = REAL / "ranked_responses_en.jsonl"
    reading = read_preferences(path)
    assert (len(reading.records), reading.rejected) == (252, [])
    given = [[item["text"].strip() for item in json.loads(line)["responses_best_first"]] for line in path.read_text("utf-8").splitlines()]
    kept = sum(len(record.responses) for record in reading.records)
    assert kept + sum(reading.merged.values()) == sum(map(len, given)) == 252 * 8
    assert reading.merged["empty_response"] == sum(not text for texts in given for text in texts)
    for record, texts in zip(reading.records, given, strict=True):
        assert record.responses == list(dict.fromkeys(filter(None, texts)))
        assert record.labels["reference"]


def test_they_can_be_split(tmp_path: Path) -> None:
    summary = split([REAL / "ranked_responses_en.jsonl"], [REAL / "seed_tasks_en.jsonl", REAL / "seed_tasks_zh.jsonl"], SplitSettings(), tmp_path)
    total = sum(summary["splits"][step][side] for step in STEPS for side in ("train", "eval"))
    left_out = sum(sum(source["left_out"].values()) for source in summary["sources"].values())
    assert total + left_out == 252 + 350
