"""What a finished evaluation tells others."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from flows import evaluation
from flows.recipe_file import load
from tasks.stage import Made, Run
from tasks.store.artifacts import Artifact


@pytest.mark.parametrize(("reused", "deployed"), [(False, True), (True, True), (False, False)])
def test_a_finished_evaluation_emits_its_scores_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reused: bool, deployed: bool) -> None:
    """The judges' and the multiple choice's among them: an automation looks at what a gate looks at."""
    report = Artifact(stage="report", fingerprint="aa", url=str(tmp_path / "report" / "aa"))
    Path(report.url).mkdir(parents=True)
    ppo, other = {"win_rate": 0.7, "kind": "ppo", "knowledge": {"valley": {"accuracy": 0.25}}}, {"kind": "other", "exact_match": 0.1}
    figures = {"corpus": {"kept": 3}, "pretrain": {}, "sft": {"exact_match": 0.5}, "reward_model": {}, "ppo": ppo, "evaluation": {"others": {"before": other}}}
    (Path(report.url) / "figures.json").write_text(json.dumps(figures))
    emitted = Mock()
    monkeypatch.setattr(evaluation, "emit_event", emitted)
    monkeypatch.setattr(evaluation, "walk", lambda *given: {"report": Made(artifact=report, reused=reused, seconds=1, counts={}, metrics={})})
    monkeypatch.setattr(evaluation.this_run, "is_deployed", lambda: deployed)
    assert "report" in evaluation.pipeline.fn(load("tiny"), Run(store=str(tmp_path)), {}, None)
    assert emitted.called == (deployed and not reused)
    if emitted.called:
        assert emitted.call_args.args == ("evaluation.finished",)
        assert emitted.call_args.kwargs["resource"]["prefect.resource.id"] == "crawl2chat.report.aa"
        scores = {"sft.exact_match": 0.5, "ppo.win_rate": 0.7, "ppo.knowledge.valley.accuracy": 0.25, "before.exact_match": 0.1}
        assert emitted.call_args.kwargs["payload"] == {"recipe": "tiny", "figures": scores}
