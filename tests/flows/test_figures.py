"""What the offline default must reach, and the first real run. Minutes: `pytest -m slow`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from data.shards import list_shards
from tests.flows.person import FIGURES, run, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def figures(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store / "reports" / "tiny" / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, home: Path) -> tuple[Path, float]:
    """Store and seconds of a whole run of the recipe as it stands."""
    store = tmp_path_factory.mktemp("store")
    started = time.monotonic()
    done = run(store, home, steps=[])
    assert done.returncode == 0, done.stderr[-4000:]
    return store, time.monotonic() - started


def test_tiny_reaches_its_figures(tiny: tuple[Path, float]) -> None:
    store, seconds = tiny
    report = figures(store)
    assert report["corpus"]["cleaning_precision"] >= 0.95
    assert report["corpus"]["cleaning_recall"] >= 0.95
    assert report["sft"]["exact_match"] >= 0.8
    assert report["reward_model"]["accuracy"] >= 0.9
    ppo = report["ppo"]
    assert ppo["reward_after"] > ppo["reward_before"]
    assert ppo["win_rate"] >= 0.8
    assert abs(ppo["exact_match"] - report["sft"]["exact_match"]) <= 0.05
    assert 0 < ppo["kl"] < 10
    assert seconds <= 300


def test_reused_run_is_quick(tiny: tuple[Path, float], home: Path) -> None:
    started = time.monotonic()
    done = run(tiny[0], home, steps=[])
    assert set(table(done.stdout).values()) == {"reused"}
    assert time.monotonic() - started <= 20


def test_same_seed_twice_is_the_same_run(tiny: tuple[Path, float], home: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "store", home, steps=[]).returncode == 0
    corpora = [[shard.read_bytes() for shard in list_shards(next(root.glob("corpus/*/documents")))] for root in (tiny[0], tmp_path / "store")]
    assert corpora[0] == corpora[1]
    first, second = figures(tiny[0]), figures(tmp_path / "store")
    for stage, names in FIGURES.items():
        for name in names:
            assert first[stage][name] == pytest.approx(second[stage][name], abs=1e-4), (stage, name)


def test_first_real_run(real: Path, home: Path, tmp_path: Path) -> None:
    """Real pages, a real crawl, real seed tasks and rankings, at tiny size."""
    store = tmp_path / "store"
    done = run(
        store, home,
        "--corpus", str(real / "pages.warc.gz"), "--corpus", str(real / "warc_crawl"),
        "--seed-tasks", str(real / "seed_tasks_en.jsonl"), "--preferences", str(real / "ranked_responses_en.jsonl"),
        steps=["self_instruct.max_rouge_l=0.7"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report = figures(store)
    corpus = report["corpus"]
    assert corpus["documents_in"] == corpus["kept"] + sum(corpus["dropped"].values())
    assert corpus["documents_in"] > 500
    assert corpus["kept"] > 80
    assert report["reward_model"]["pairs"] > 20
    assert report["ppo"]["kl"] >= 0


def test_no_broken_archive_stops_a_run(real: Path, home: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "store", home, "--corpus", str(real / "warc_edge_cases"), "--until", "ingest", steps=[])
    assert done.returncode == 0, done.stderr[-4000:]
    manifest = json.loads(next((tmp_path / "store").glob("ingest/*/manifest.json")).read_text())
    assert manifest["counts"]["documents_in"] == manifest["counts"]["kept"] + sum(manifest["counts"]["dropped"].values())
    assert manifest["counts"]["kept"] >= 5
