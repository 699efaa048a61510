"""A search space as a person writes it; a small sweep that shares its corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.sweep import Dimension, main
from tests.flows.person import FEW_STEPS


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


def test_a_wrong_key_is_refused_before_the_first_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--store", str(tmp_path), "--objective", "sft.eval_loss", "--search", "sft.batch_sise=8,16"])
    assert refusal.value.code == 2 and "did you mean 'batch_size'" in capsys.readouterr().err


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
