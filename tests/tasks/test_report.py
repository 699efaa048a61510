"""The report says what the artifacts say."""

from __future__ import annotations

import pytest

from rlhf_core.settings import PpoStage, PretrainStage, RewardStage
from tasks import charts
from tasks.artifacts import Artifact
from tasks.figures import gather
from tasks.page import closing_table
from tasks.report import warnings
from tasks.stage import Made


def stage(name: str, **given: object) -> Made:
    values = {"counts": {}, "metrics": {}, "seconds": 1.25, "reused": False} | given
    return Made(artifact=Artifact(stage=name, fingerprint="f", url=f"/store/{name}/f"), **values)  # type: ignore[arg-type]


@pytest.fixture
def made() -> dict[str, Made]:
    nothing = {"documents_in": 0, "kept": 0, "dropped": {}}
    found = {name: stage(name, counts=nothing) for name in ("rough_language", "lines")}
    found["ingest"] = stage("ingest", counts={"documents_in": 100, "kept": 90, "dropped": {"http_status": 10}})
    found["urls"] = stage("urls", counts={"documents_in": 90, "kept": 85, "dropped": {"blocked_host": 5}})
    found["extraction"] = stage("extraction", counts={"documents_in": 85, "kept": 84, "dropped": {"empty_text": 1}})
    found["corpus"] = stage("corpus", counts={"documents_in": 84, "kept": 5, "dropped": {"duplicate": 79}}, metrics={"cleaning_recall": 1.0})
    found["pretrain"] = stage("pretrain", metrics={"loss": 2.0})
    found["reward_model"] = stage("reward_model", metrics={"accuracy": 0.5}, reused=True)
    found["ppo"] = stage("ppo", metrics={"reward_before": 1.0, "reward_after": 0.5, "kl": 12.0})
    return found


def test_counts_add_up_and_warnings_come_first(made: dict[str, Made]) -> None:
    stages = [PretrainStage(name="pretrain"), RewardStage(name="reward_model"), PpoStage(name="ppo", reward_model="reward_model")]
    figures = gather("tiny", stages, made, {"models": {"ppo": {"exact_match": None}}, "ppo": {"model": "ppo", "win_rate": 0.9}}, {})
    corpus = figures["corpus"]
    assert corpus["documents_in"] == corpus["kept"] + sum(corpus["dropped"].values()) == 100
    assert corpus["cleaning_recall"] == 1.0
    assert "exact_match" not in figures["ppo"]  # no questions were asked
    assert figures["ppo"]["win_rate"] == 0.9 and figures["ppo"]["kl"] == 12.0
    text = " ".join(warnings(figures, stages))
    for expected in ("Only 5 of 100", "duplicate", "12.0 nats", "fell from 1.00 to 0.50", "50%"):
        assert expected in text


def test_table_says_made_or_reused(made: dict[str, Made]) -> None:
    table = closing_table(made).splitlines()
    assert [line.split()[-1] for line in table if line.startswith("reward_model")] == ["reused"]
    assert [line.split() for line in table if line.startswith("ingest")] == [["ingest", "1.2", "100", "90", "made"]]


def test_pictures_are_svg_and_the_same_twice() -> None:
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_loss": 2.5}, {"step": 3, "loss": 1.0, "eval_loss": 1.5}]
    picture = charts.curves(lines, [["loss", "eval_loss"], ["absent"]])
    assert picture.startswith("<svg") and picture == charts.curves(lines, [["loss", "eval_loss"], ["absent"]])
    assert charts.curves([], [["loss"]]) == ""
    distributions = charts.histograms({"words": {"edges": [0, 1, 2], "kept": [1, 2], "dropped": [3, 0]}, "topic": {"values": []}})
    assert distributions.startswith("<svg") and "words" in distributions and "topic" not in distributions
    assert charts.histograms({"topic": {"values": []}}) == ""
    assert "blocked_host" in charts.waterfall(10, {"blocked_host": 4}, 6)
