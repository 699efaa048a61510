"""A search space as a person writes it; a small sweep that shares its corpus."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from flows import sweep as sweeping
from flows.recipe import Recipe
from flows.recipe_file import load
from flows.sweep import Dimension, Search, main
from tasks.stage import Made, Run
from tasks.store.artifacts import Draft, Result
from tests.flows.person import FEW_STEPS, ranks


def test_ranges_and_choices_are_read() -> None:
    assert Dimension.parse("sft.optimizer.learning_rate=1e-4..1e-2:log") == Dimension(
        key="sft.optimizer.learning_rate", low=1e-4, high=1e-2, log=True
    )
    assert Dimension.parse("ppo.kl_coef=0.05..0.2") == Dimension(key="ppo.kl_coef", low=0.05, high=0.2)
    assert Dimension.parse("sft.batch_size=8,16") == Dimension(key="sft.batch_size", choices=["8", "16"])


@pytest.mark.parametrize("text", ["sft.batch_size", "sft.batch_size=", "ppo.kl_coef=a..b"])
def test_wrong_ranges_show_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"write key=low\.\.high, key=low\.\.high:log or key=a,b,c"):
        Dimension.parse(text)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("sft.batch_sise=8,16", "did you mean 'batch_size'"),
        ("pretrain.model.heads=4,3", "hidden_size 128 is no multiple of heads 3"),  # not the first of the choices
        ("ppo.optimizer.warmup_share=0.1..1.5", "ppo.optimizer.warmup_share"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_the_first_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], search: str, message: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--store", str(tmp_path), "--objective", "sft.eval_loss", "--search", search])
    assert refusal.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.usefixtures("prefect_server")
def test_poor_trials_stop_early_and_the_server_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial reports four steps, the farther its rate from 1e-3 the worse."""
    pytest.importorskip("optuna")
    recipe, run = load("tiny", ["approve_before=[sft, publish]", "publish={measures: [{figure: sft.exact_match}]}"]), Run(store=str(tmp_path))
    reported: list[list[float]] = []

    def trained(recipe: Recipe, run: Run, until: str | None) -> dict[str, Made]:
        assert until == "sft" and not recipe.approve_before and recipe.publish is None  # a trial is neither asked for nor put into service
        [rate] = [stage.optimizer.learning_rate for stage in recipe.training if stage.name == "sft"]
        off = abs(math.log10(rate) + 3)
        reported.append([])

        def build(draft: Draft) -> Result:
            assert run.stop
            for step in range(1, 5):
                reported[-1].append(off + 4 / step)
                run.stop.check("sft", {"step": step, "eval_loss": off + 4 / step})
                with (draft.out / "metrics.jsonl").open("a") as lines:
                    lines.write(json.dumps({"step": step, "eval_loss": off + 4 / step}) + "\n")
            return Result({}, {})

        artifact, _ = run.open_store().make("sft", 1, recipe, {}, build)
        return {"sft": Made(artifact=artifact, reused=False, seconds=0, counts={}, metrics={"eval_loss": reported[-1][-1]})}

    monkeypatch.setattr(sweeping, "crawl_to_model", trained)
    rates = Dimension(key="sft.optimizer.learning_rate", low=1e-6, high=1.0, log=True)
    search = Search(dimensions=[rates], objective="sft.eval_loss", better="lower", trials=8, sampler="random")
    trials = sweeping.sweep(recipe, run, search)

    outcomes = [trial.outcome for trial in trials]
    assert outcomes[:3] == ["finished"] * 3 and {"finished", "stopped early"} == set(outcomes[3:])
    for number, (trial, steps) in enumerate(zip(trials, reported, strict=True)):
        poor = number >= 3 and steps[0] > statistics.median([other[0] for other in reported[:number] if len(other) == 4])
        assert (trial.outcome == "stopped early") == poor, (number, steps)
        assert len(steps) == (1 if poor else 4)  # nothing is trained after the verdict
        assert not poor or "at step 1 is worse than the median" in trial.reason
    assert min(trials, key=lambda trial: trial.value or math.inf).value == pytest.approx(min(steps[-1] for steps in reported if len(steps) == 4))

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["trial"])))
        shown = {artifact.key: artifact.data for artifact in client.read_artifacts()}
    assert sorted(one.state_name or "" for one in runs) == sorted({"finished": "Completed", "stopped early": "StoppedEarly"}[one] for one in outcomes)
    assert [row["outcome"] for row in json.loads(str(shown["sweep-trials"]))] == sorted(outcomes)
    assert "](data:image/png;base64," in str(shown["sweep"])
    assert len(json.loads((tmp_path / "sweeps" / "tiny.json").read_text())["trials"]) == 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_poor_trial_takes_its_job_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Real jobs: a rate that learns nothing is told by the steps of the ones before it, and its ranks are gone at once."""
    steps = [part for step in [*FEW_STEPS, "pretrain.launch.ranks=1"] for part in ("--set", step)]
    search = ["--search", "pretrain.optimizer.learning_rate=1e-9..1e-2:log", "--sampler", "random", "--trials", "7"]
    assert main(["--store", str(tmp_path), *steps, "--objective", "pretrain.loss", "--lower", *search]) == 0
    trials = json.loads((tmp_path / "sweeps" / "tiny.json").read_text())["trials"]
    rates = {outcome: [float(t["settings"]["pretrain.optimizer.learning_rate"]) for t in trials if t["outcome"] == outcome] for outcome in ("finished", "stopped early")}
    assert rates["stopped early"] and max(rates["stopped early"]) < max(rates["finished"])
    assert len(list(tmp_path.glob("pretrain/*/manifest.json"))) == len(rates["finished"])
    stopped = [len(path.read_text().splitlines()) for path in tmp_path.glob(".work/pretrain-*/work/output/metrics.jsonl")]
    assert len(stopped) == len(rates["stopped early"]) and max(stopped) < 60
    assert not ranks(tmp_path)
    assert "Finished in state StoppedEarly" in caplog.text and "Traceback" not in caplog.text


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_trials_share_what_they_have_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [part for step in FEW_STEPS for part in ("--set", step)]
    search = ["--search", "pretrain.optimizer.learning_rate=1e-4,5e-3", "--sampler", "random", "--trials", "3"]
    assert main(["--store", str(tmp_path), *steps, "--objective", "pretrain.loss", "--lower", "--keep-poor", *search]) == 0
    assert len(list(tmp_path.glob("corpus/*/manifest.json"))) == 1
    trials = json.loads((tmp_path / "sweeps" / "tiny.json").read_text())["trials"]
    by_rate: dict[str, set[float]] = {}
    for trial in trials:
        by_rate.setdefault(trial["settings"]["pretrain.optimizer.learning_rate"], set()).add(trial["value"])
    assert len(list(tmp_path.glob("pretrain/*/manifest.json"))) == len(by_rate)
    assert all(len(values) == 1 for values in by_rate.values())  # the same settings are the same artifact
    assert "trial" in capsys.readouterr().out
