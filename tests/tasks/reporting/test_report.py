"""The report says what the artifacts say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.settings import PpoStage, PretrainStage, RewardStage
from tasks.reporting import charts
from tasks.reporting.charts import cut
from tasks.reporting.figures import gather
from tasks.reporting.findings import warnings
from tasks.reporting.page import closing_table, render
from tasks.reporting.pictures import curves, draw
from tasks.reporting.way import way
from tasks.stage import Made
from tasks.store.artifacts import Artifact

STAGES = [PretrainStage(name="pretrain"), RewardStage(name="reward_model"), PpoStage(name="ppo", reward_model="reward_model")]


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
    figures = gather("tiny", STAGES, made, {"models": {"ppo": {"exact_match": None}}, "ppo": {"model": "ppo", "win_rate": 0.9}}, {})
    corpus = figures["corpus"]
    assert corpus["documents_in"] == corpus["kept"] + sum(corpus["dropped"].values()) == 100
    assert corpus["cleaning_recall"] == 1.0
    assert "exact_match" not in figures["ppo"]  # no questions were asked
    assert figures["ppo"]["win_rate"] == 0.9 and figures["ppo"]["kl"] == 12.0
    text = " ".join(warnings(figures, STAGES))
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


ACCURACY = {"accuracy": 0.3, "interval": [0.2, 0.4]}
KNOWN = ACCURACY | {
    "mean_of_subjects": 0.25, "mean_of_subjects_interval": [0.1, 0.4], "categories": {"social": ACCURACY},
    "subjects": {"law": {"title": "法学"} | ACCURACY, "marxism": {"title": "马克思主义"} | ACCURACY},
}  # fmt: skip


def filled(made: dict[str, Made], **judgement: object) -> dict[str, Any]:
    """Figures of a small run as write_run_report completes them."""
    nothing = {"documents_in": 0, "kept": 0, "dropped": {}}
    made |= {"splits": stage("splits"), "instructions": stage("instructions", counts=nothing, metrics={"conversations": 12})}
    evaluation = {
        "questions": 10, "prompts": 5, "problems": [{"measure": "kl", "model": "ppo", "text": "its vocabulary is not that of sft", "count": None}],
        "models": {
            name: {
                "kind": name, "exact_match": 0.5, "exact_match_interval": [0.2, 0.8],
                "language_model": {"zh": {"perplexity": 9.0, "bits_per_byte": bits}}, "knowledge": {"c": KNOWN},
            }
            for name, bits in (("pretrain", 1.0), ("ppo", 1.2))
        } | {"before": {"kind": "other", "language_model": {"zh": {"perplexity": 7.0, "bits_per_byte": 1.75}}}},
        "reward_model": {"accuracy": 0.5, "pairs": 9, "reliability": [{"confidence": 0.6, "accuracy": 0.5, "pairs": 9}], "by_source": {"hands": {"accuracy": 0.5, "pairs": 9}},
                         "length_correlation": {"pearson": 0.314, "spearman": None}},
        "drift": {"best_of_n": {"model": "sft", "points": [{"n": 1, "kl": 0.0, "reward": 0.1}, {"n": 2, "kl": 0.2, "reward": 0.3}]}, "stages": {
            name: {part: [{"step": step, "kl": step / 10, "reward": 0.1 * step} for step in (0, 1, 2)] for part in ("training", "held_out")} for name in ("ppo", "raft")
        }},
    }  # fmt: skip
    figures = gather("tiny", STAGES, made, evaluation, {"baseline": "pretrain", "pairs": 5, **judgement}) | {"way": way(STAGES, made)}
    figures["warnings"] = warnings(figures, STAGES)
    figures["settings"] = {"sft.steps": 3}
    entry = {"seconds": 1.0, "ended": "2026-11-22T09:08:07+00:00", "reused": False, "artifact": "/a", "fingerprint": "0123456789", "inputs": {}, "teacher": {}}
    figures["stages"] = [{"name": name, **entry} for name in made]
    figures["stages"][0]["teacher"] = {"calls": 3, "tokens_in": 4000, "tokens_out": 5, "cost": 0.25}
    return figures


def tallied(value: float | None, failures: dict[str, int], first: float | None = None) -> dict[str, Any]:
    rate = None if value is None else {"value": value, "low": value - 0.1, "high": value + 0.1, "count": 5}
    shown = {"wins": 3, "ties": 1, "losses": 1, "p_value": 0.6, "disagreement": 0.2, "languages": {}}
    return {"win_rate": rate, "failures": failures, "first_preferred": first, **shown}


def test_what_judges_fail_at_is_said(made: dict[str, Made]) -> None:
    poor, good = ({"overall": tallied(rate, {})} for rate in (0.2, 0.8))
    teacher = {"tone": tallied(None, {"failed": 4}), "correctness": tallied(0.5, {"unreadable": 2}, first=0.9), "overall": tallied(0.2, {})}
    figures = filled(made, judges={"teacher": {"ppo": teacher, "pretrain": poor}, "reward": {"ppo": good, "pretrain": good}})
    text = "\n".join(figures["warnings"])
    for expected in (
        "judge teacher, ppo, tone: 4 of 9 comparisons failed (4 failed); no win rate.", "correctness: 2 of 7 comparisons failed (2 unreadable); left out",
        "in 90% of the decided orders the answer shown first won", "ppo: the reward model prefers it (80%) where judge teacher does not (20%): the reward is hacked",
        "pretrain: the reward model prefers it (80%) where judge teacher does not (20%): the reward model is wrong about such answers", "held-out text (zh) costs 1.20 bits a byte, 1.00 with pretrain",
        "kl, ppo: its vocabulary is not that of sft.",
    ):  # fmt: skip
        assert expected in text
    assert figures["ppo"]["win_rate_teacher"] == 0.2 and "win_rate_teacher_tone" not in figures["ppo"]


HOSTILE = "<script>alert(1)</script><img src=https://example.com/x.png>"


def drawn(figures: dict[str, Any], folder: Path) -> str:
    """The page of such figures, with a small curve for each stage."""
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "grad_norm": 1}\n{"step": 2, "loss": 1.0}\n')
    figures["curves"] = {stage.name: curves(stage.kind, folder / "metrics.jsonl") for stage in STAGES}
    pictures = draw(figures, STAGES)
    assert {"way", "waterfall", "bits", "knowledge", "judges", "drift", "reliability", "curves.pretrain"} <= {name for name, text in pictures.items() if text}
    for words in ("held-out prompts", "best of N by sft", "ppo, training", "raft, training"):
        assert words in pictures["drift"]
    figures["samples"] = [{"prompt": HOSTILE, "lang": "zh", "reference": "银溪", "answers": {"ppo": HOSTILE, HOSTILE: "x", "a": None, "b": ""}, "rewards": {"ppo": 1.25}}]
    return render(figures, pictures)


def page(made: dict[str, Made], folder: Path) -> str:
    return drawn(filled(made, judges={"rule": {"ppo": {"overall": tallied(0.7, {})}}}), folder)


def test_a_long_runs_curve_is_the_mean_of_neighbours(tmp_path: Path) -> None:
    lines = [{"step": step, "reward": float(step), "other": 1.0} | ({"kl": 5.0} if step == 3 else {}) for step in range(1, 1200)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves("ppo", tmp_path / "metrics.jsonl")
    assert len(found) == 400 and found[:2] == [{"step": 3, "reward": 2.0, "kl": 5.0}, {"step": 6, "reward": 5.0}]
    assert found[-1] == {"step": 1199, "reward": 1198.5} and curves("ppo", tmp_path / "none") == []


def test_long_names_leave_room_for_the_pictures(made: dict[str, Made], tmp_path: Path) -> None:
    """Names of sixty letters: every picture can be drawn, and no label has more letters than its place."""
    name = "sft_" + "on_the_general_and_then_on_the_domain_" * 2
    figures = filled(made, judges={"teacher": {"ppo": {"correctness": tallied(0.7, {})}}})
    figures["evaluation"]["others"] = {name: figures["evaluation"]["others"]["before"] | {"knowledge": {"c": KNOWN}}}
    figures["corpus"]["dropped"][name] = 0
    figures["judgement"]["judges"]["teacher"][name] = figures["judgement"]["judges"]["teacher"]["ppo"]
    figures["way"]["nodes"] += [{"name": name, "column": 1, "row": 3, "note": ""}]
    text = drawn(figures, tmp_path)
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert len([one for one in shown if "…" in one]) >= 4 and max(len(one) for one in shown if one.startswith("sft_on")) < len(name)
    assert cut("abcdefghij", 10) == "abcdefghij" and cut("abcdefghijk", 10) == "abcde…hijk" and cut("abcdefghijk", 5) == "ab…jk"


def test_letters_that_no_model_writes_are_said(made: dict[str, Made]) -> None:
    figures = filled(made)
    assert "Knowledge of" not in " ".join(figures["warnings"])
    for share, said in ((0.004, True), (0.4, False), (None, False)):
        figures["ppo"]["knowledge"] = {"c": KNOWN | {"letter_probability": share}}
        assert ("Knowledge of c: no model answers with a letter" in " ".join(warnings(figures, STAGES))) == said


def test_page_is_self_contained_and_escapes_texts(made: dict[str, Made], tmp_path: Path) -> None:
    text = page(made, tmp_path)
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;alert(1)" in text
    addresses = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)|url\(([^)]*)\)|@import ([^;]*)", text)
    assert all(address.startswith(("#", "data:")) for found in addresses for address in found if address)
    header = re.search(r"<tr><th></th>(.*?)</tr>", text)
    assert header and re.findall(r">(\w+)<small>", header[1]) == ["before", "pretrain", "ppo"] and "1.75" in text
    for expected in (
        f"{len(made)} stages, {len(made)} made in this run and 0 reused", "ended 2026-11-22 09:08 UTC", "1.00 → 0.50",
        "50.0%", "20.0% to 80.0%", "银溪", "4,000 + 5 tokens", "12 conversations", "What to look at first", "reward 1.25", "aligned by rewards",
        "source: hands", "Pearson&#39;s correlation", "+0.31", "none: one of them never differs", "no answer: the prompt does not fit the model", "(an empty answer)", "法学", "mean of the subjects", "What the words mean",
    ):  # fmt: skip
        assert expected in text
    assert text.index("What to look at first") < text.index("<svg") and text.count("<svg") == text.count('<svg role="img" aria-label="') > 9
