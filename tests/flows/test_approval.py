"""Where a person is asked, and what a refusal does."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from flows import approval, full_pipeline
from flows.approval import Decision
from flows.recipe_errors import RecipeError
from flows.recipe_file import load
from tasks.reporting import excerpt
from tasks.stage import Made, Run
from tasks.store.artifacts import Draft, Result
from tests.flows import stack as stacks
from tests.flows.stack import Stack, until


@pytest.mark.parametrize(
    ("approve", "expected"),
    [
        ([], [(None, "ppo")]),
        (["ppo"], [(None, "reward_model"), ("ppo", "ppo")]),
        (["tokenizer", "sft"], [("tokenizer", "pretrain"), ("sft", "ppo")]),
        (["elsewhere"], [(None, "ppo")]),
    ],
)
def test_stages_are_cut_before_what_needs_approval(approve: list[str], expected: list[tuple[str | None, str]]) -> None:
    assert approval.segments(["tokenizer", "pretrain", "sft", "reward_model", "ppo"], approve) == expected


def test_with_no_one_to_ask_it_is_refused_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(approval.Refused, match="ppo waits for a person's approval, and there is no one to ask"):
        approval.ask("ppo", {}, Run(store=str(tmp_path)))


def test_the_numbers_and_the_last_answers_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(store=str(tmp_path))

    def made(stage: str, lines: list[dict[str, Any]] | None, **metrics: Any) -> Made:
        def build(draft: Draft) -> Result:
            if lines is not None:
                (draft.out / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            return Result({}, metrics)

        artifact, _ = run.open_store().make(stage, 1, Decision(), {}, build)
        return Made(artifact=artifact, reused=False, seconds=0, counts={}, metrics=metrics)

    terminal = io.StringIO("y\n" * 3)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    found = {"sampled": made("sampled", [{"turns": [], "responses": ["a", "b"]}]), "sft": made("sft", None, loss=1.25)}
    approval.ask("reward_model", found, run)
    said = capsys.readouterr().out
    assert "| sft | loss | 1.25 |" in said and "| prompt |" not in said  # no model has answered yet

    found["ppo"] = made("ppo", [{"prompt": f"Which river, number {n}?", "response": "The\nlong | one", "reward": -0.5} for n in range(9)])
    approval.ask("dpo", found, run)
    said = capsys.readouterr().out
    assert said.count("| Which river") == 5 and "| Which river, number 8? | ppo (reward -0.5) | The long \\| one |" in said

    found["evaluation"] = made("evaluation", [{"prompt": "Which bridge?", "answers": {"sft": "x" * 300, "ppo": "The old one."}}])
    approval.ask("publish", found, run)
    said = capsys.readouterr().out
    assert f"| Which bridge? | sft | {'x' * 199}… |" in said and "| Which bridge? | ppo | The old one. |" in said and "river" not in said

    page = Mock()
    monkeypatch.setattr(excerpt.show, "page", page)
    excerpt.show_samples({"sft": found["sft"]}, run)
    assert not page.called  # nobody has answered
    excerpt.show_samples(found, run)
    assert "| Which bridge? | ppo | The old one. |" in page.call_args.args[1]


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("no", False), ("", False)])
def test_a_person_on_a_terminal_decides(monkeypatch: pytest.MonkeyPatch, answer: str, goes_on: bool, tmp_path: Path) -> None:
    run = Run(store=str(tmp_path))
    terminal = io.StringIO(answer + "\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    if goes_on:
        approval.ask("ppo", {}, run)
    else:
        with pytest.raises(approval.Refused, match="ppo was refused"):
            approval.ask("ppo", {}, run)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("approve_before=[pppo]", "approve_before: no training stage 'pppo'; allowed: pretrain, sft, reward_model, ppo, publish"),
        ("publish={model: reward_model}", "publish.model: 'reward_model' is no stage that leaves an answering model; allowed: pretrain, sft, ppo"),
        ("publish={measures: [{figur: ppo.win_rate}]}", "figur"),
    ],
)
def test_wrong_service_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        load("tiny", [override])
    assert message in str(refusal.value)


@pytest.mark.parametrize("until", [None, "sft", "tokenizer"])
def test_nothing_behind_an_approval_starts_before_it(monkeypatch: pytest.MonkeyPatch, until: str | None) -> None:
    """Whatever the run is told to stop after."""
    happened: list[str] = []

    def run_part(part: Any, recipe: Any, run: Run, made: dict[str, Any], stop: str | None) -> dict[str, Any]:
        names = list(part.steps(recipe, run))
        made = dict(made)
        for name in names[: names.index(stop) + 1] if stop in names else names:
            if name not in made:
                happened.append(name)
                made[name] = name
        return made

    monkeypatch.setattr(full_pipeline.place, "run_part", run_part)
    monkeypatch.setattr(full_pipeline.place, "in_the_store", lambda part, recipe, run, made, until: (made, False))
    monkeypatch.setattr(full_pipeline.approval, "ask", lambda stage, made, run: happened.append(f"ask {stage}"))
    for after_the_end in ("show_stages", "show_samples", "write_run_report", "publish"):
        monkeypatch.setattr(full_pipeline, after_the_end, Mock())
    full_pipeline.crawl_to_model(load("tiny", ["approve_before=[pretrain, ppo]"]), Run(store="nowhere"), until)
    assert happened[-1] == (until or "report") and ("ppo" in happened) == (until is None)
    for stage in ("pretrain", "ppo"):
        assert stage not in happened or happened[happened.index(stage) - 1] == f"ask {stage}"


@pytest.mark.parametrize("missing", ["pretrain", "sft", "ppo", None])
def test_what_is_there_is_not_asked_about(monkeypatch: pytest.MonkeyPatch, missing: str | None) -> None:
    """And what lies behind a stage that is missing is asked about, since it will be another."""
    asked: list[str] = []

    def reuse(steps: Any, made: dict[str, Any], until: str) -> tuple[dict[str, Any], bool]:
        names = list(steps)
        names = names[: names.index(until) + 1]
        found = names[: names.index(missing)] if missing in names else names
        return made | dict.fromkeys(found, "there"), found == names

    def run_part(part: Any, recipe: Any, run: Run, made: dict[str, Any], stop: str | None) -> dict[str, Any]:
        return made | dict.fromkeys(part.steps(recipe, run), "there")

    monkeypatch.setattr(full_pipeline.place, "reuse", reuse)
    monkeypatch.setattr(full_pipeline.place, "run_part", run_part)
    monkeypatch.setattr(full_pipeline.approval, "ask", lambda stage, made, run: asked.append(stage))
    for after_the_end in ("show_stages", "show_samples", "write_run_report", "publish"):
        monkeypatch.setattr(full_pipeline, after_the_end, Mock())
    full_pipeline.crawl_to_model(load("tiny", ["approve_before=[pretrain, ppo]"]), Run(store="nowhere"), None)
    assert asked == {"pretrain": ["pretrain", "ppo"], "sft": ["ppo"], "ppo": ["ppo"], None: []}[missing]


# ---- on a server, by a worker ----


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server on SQLite with a password, the deployments and a worker for them."""
    with stacks.small(tmp_path_factory.mktemp("served")) as stack:
        stack.worker("cpu")
        yield stack


def started(stack: Stack, seed: int, gpu: str | None = None) -> str:
    """A run up to pretraining, for which it needs approval: its id."""
    own = [f"pretrain.seed={seed}", "pretrain.steps=2", "pretrain.eval_steps=2", "pretrain.launch.ranks=1"]
    recipe = load("tiny", ["approve_before=[pretrain]", *own]).model_dump(mode="json")
    return stack.create("full_pipeline/production", recipe=recipe, run={"store": str(stack.folder / "store"), "gpu": gpu}, until="pretrain")


def suspended(stack: Stack, seed: int, gpu: str | None = None) -> str:
    """A run that waits before pretraining: its id, once its process has ended."""
    run = started(stack, seed, gpu)
    until(lambda: stack.engines("cpu-worker", run), "no worker took the run", 300)
    stack.reaches(run, "PAUSED")
    until(lambda: not stack.engines("cpu-worker", run), "the suspended run's process lives on", 60)
    return run


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_waits_without_a_process_and_goes_on_when_told(served: Stack) -> None:
    run = suspended(served, seed=1)
    store = served.folder / "store"
    assert not list(store.glob("pretrain/*/manifest.json")) and list(store.glob("tokenizer/*/manifest.json"))
    made = {path: path.stat().st_mtime_ns for path in store.glob("*/*/manifest.json")}
    refused = served.call("POST", f"/flow_runs/{run}/resume", {"run_input": {"approve": "perhaps"}})
    assert refused["status"] == "REJECT" and "approve" in json.dumps(refused)
    assert served.call("GET", f"/flow_runs/{run}")["state"]["type"] == "PAUSED"
    served.answer(run, approve=True, note="the numbers are fine")
    assert served.reaches(run, "COMPLETED")
    assert {path: path.stat().st_mtime_ns for path in made} == made  # all that was there is reused
    assert len(list(store.glob("pretrain/*/manifest.json"))) == 1
    logs = served.call("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
    assert any("pretrain: approved: the numbers are fine" in line["message"] for line in logs)
    assert served.reaches(started(served, seed=1), "COMPLETED", "PAUSED")["type"] == "COMPLETED"  # nothing is left to be allowed


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_refusal_ends_the_run_with_the_note(served: Stack) -> None:
    run = suspended(served, seed=3)
    served.answer(run, approve=False, note="too few documents")
    state = served.reaches(run, "CANCELLED")
    assert (state["name"], state["message"]) == ("Refused", "pretrain was refused: too few documents")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_what_a_person_has_allowed_is_trained_in_another_pool(served: Stack) -> None:
    """The process that goes on looks into the store for what the first one did not find there."""
    served.worker("gpu")
    run = suspended(served, seed=2, gpu="gpu")
    served.answer(run, approve=True, note="go on")
    assert served.reaches(run, "COMPLETED")
