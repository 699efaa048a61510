"""What a training task makes sure of around its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.settings import SftStage
from tasks import training
from tasks.jobs import JobFailed
from tasks.store.artifacts import Draft, Files


@pytest.mark.parametrize("when", ["before the first step", "later"])
def test_files_that_change_before_they_are_read_end_the_job_and_later_ones_do_not(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact would be kept under the name of what it did not learn."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("a")
    artifacts: dict[str, Any] = {"data": Files.of(data)}

    def run(draft: Draft, job: Any, command: Any, launch: Any, ranks: int, on_metrics: Any) -> Path:
        for step in (1, 2):
            if (when == "later") == (step == 2):
                (data / "train.jsonl").write_text("b")
            on_metrics({"step": step, "steps": 2})
        output = draft.work / "output"
        output.mkdir()
        (output / "metrics.jsonl").write_text("")
        (output / "summary.json").write_text("{}")
        return output

    monkeypatch.setattr(training, "run_in_draft", run)
    draft = Draft(tmp_path / "out", tmp_path / "work")
    draft.work.mkdir()
    draft.out.mkdir()
    stage, inputs = SftStage(name="sft", init="base"), {"init": "base"}

    def launch() -> None:
        training._launch(stage, "sft", inputs, "rlhf_core.train", draft, None, lambda: training._check_unchanged(artifacts))

    if when == "later":
        launch()
        assert (draft.out / "summary.json").exists()
    else:
        with pytest.raises(JobFailed, match=r"input data: .*data changed while the job was started; run again"):
            launch()
