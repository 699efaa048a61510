"""Jobs as the tasks launch them: processes, exit statuses, kill -9, ranks and ZeRO stages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.jobs import JobFailed, Limits, environment, run_job
from tasks.launching import Forked
from tests.rlhf_core.toy import Chain, read_metrics, weights

ROOT = Path(__file__).parents[2]


def start(job: Path, ranks: int | None = None, script: str | None = None) -> subprocess.Popen[str]:
    """One process; with `ranks`, so many of them under DeepSpeed's own launcher; with `script`, what it runs in the module's place."""
    command = [sys.executable, "-m"]
    if ranks:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command += ["deepspeed.launcher.runner", "--num_gpus", str(ranks), "--master_port", port, "--module"]
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of the jobs run in this process
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", script, str(job)] if script else [*command, "rlhf_core.train", str(job)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def run_ranks(
    chain: Chain, ranks: int, name: str, kind: str, inputs: dict[str, str] | None = None, **settings: Any
) -> Path:
    """As many processes, started as the tasks do on CPUs; the output folder. Raises JobFailed."""
    job, output = chain.write_job(name, kind, inputs, **settings), chain.world / name
    limits = Limits(total=250, silence=250)
    run_job(
        Forked("rlhf_core.train", job, ranks), job.with_suffix(".log"), output / "metrics.jsonl",
        environment(ranks, 1), limits,
    )  # fmt: skip
    return output


def test_bad_jobs_end_with_status_2_and_one_clear_line(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text(
        json.dumps(
            {"stage": {"kind": "sft", "name": "s", "batch_size": 0}, "inputs": {}, "output": "o", "work": "w"}
        )
    )
    status, output = finish(start(job))
    assert status == 2
    # of the kind that was meant alone: the others' names and an evaluation's were 4,000 letters more
    assert output == f"error: {job}: stage.training.sft.batch_size: Input should be greater than or equal to 1\n"


KILLED = """
import os, signal, sys
from rlhf_core.job.recorder import Recorder
from rlhf_core.train import main
write = Recorder.write
def killed(self, step, *rest):
    write(self, step, *rest)
    if step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Recorder.write = killed
sys.exit(main())
"""


def test_a_job_killed_with_signal_9_goes_on_and_ends_with_the_same_numbers(chain: Chain) -> None:
    """It kills itself, so that where does not hang on how busy the machine is."""
    options: dict[str, Any] = {"steps": 10, "checkpoint_steps": 4, "eval_steps": 5}
    whole = chain.run("kill_whole", "sft", **options)
    job = chain.write_job("kill_broken", "sft", **options)
    status, output = finish(start(job, script=KILLED))
    assert status == -signal.SIGKILL, output
    assert read_metrics(chain.world / "kill_broken") == read_metrics(whole)[:7]
    status, output = finish(start(job))
    assert status == 0, output
    assert "resumed after step 4 of 10" in output
    assert read_metrics(chain.world / "kill_broken") == read_metrics(whole)
    resumed = weights(chain.world / "kill_broken")
    assert all(torch.equal(value, resumed[name]) for name, value in weights(whole).items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "dpo", "ppo"])
def test_two_ranks_equal_one(chain: Chain, kind: str) -> None:
    """Of seven examples one rank has three: with three at a time it has none left when the other takes its fourth."""
    options: dict[str, Any] = {"steps": 4, "eval_steps": 2, "launch": {"threads": 1, "micro_batch_size": 3}}
    options |= {"ppo_epochs": 2, "minibatches": 2} if kind == "ppo" else {"batch_size": 7}
    one = read_metrics(chain.run(f"{kind}_rank1", kind, **options))
    agree(one, read_metrics(run_ranks(chain, 2, f"{kind}_rank2", kind, **options)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "rloo", "raft", "dpo"])
def test_zero_stages_agree(chain: Chain, kind: str) -> None:
    """Two ranks; raft's keep unequal parts of what they wrote, and ZeRO-3 must not wait for them forever."""
    found = {}
    first: dict[str, Any] = {}
    for zero in (0, 2, 3):
        output = run_ranks(
            chain, 2, f"{kind}_zero{zero}", kind, steps=3, eval_steps=3, launch={"threads": 1, "zero_stage": zero}
        )
        found[zero] = read_metrics(output)
        if kind == "dpo":
            del found[zero][0]["accuracy"]  # all differences are 0 at the start: their signs are noise
        saved = weights(output)
        first = first or saved
        assert set(saved) == set(first)
        # Adam's first steps divide a gradient by itself: where it is nearly 0, noise decides the sign
        far = {key: float((value - first[key]).abs().max()) for key, value in saved.items()}
        assert max(far.values()) < 0.1 * 5e-3, far
    agree(found[0], found[2])
    agree(found[0], found[3])


@pytest.mark.slow
def test_pairs_of_own_answers_are_the_same_on_two_ranks_with_a_split_judge(chain: Chain) -> None:
    """15 batches of prompts and 3 held-out ones: one rank has fewer, and asks the reward model as often."""
    options: dict[str, Any] = {
        "steps": 3, "eval_steps": 3, "pairs_from": "samples", "data": "splits/ppo", "samples": 8, "max_new_tokens": 8,
        "reward_model": "reward", "reward_normalisation": "none", "temperature": 2.0,
    }  # fmt: skip
    inputs = {"data": str(chain.world / "splits" / "ppo"), "reward_model": str(chain.world / "reward")}
    one = chain.run("own_alone", "dpo", inputs, **options)
    two = run_ranks(chain, 2, "own_pair", "dpo", inputs, **options, launch={"threads": 1, "zero_stage": 3})
    found = [read_metrics(output) for output in (one, two)]
    for lines in found:
        del lines[0]["accuracy"]  # all differences are 0 at the start: their signs are noise
    agree(*found)
    pairs = [json.loads((output / "summary.json").read_text())["pairs"] for output in (one, two)]
    assert pairs[0] == pairs[1] > 30


def broken_on_the_second_rank(prompts: list[Any], answers: list[str]) -> list[float]:
    return [float("nan") if os.environ["RANK"] == "1" else 1.0] * len(answers)


@pytest.mark.slow
def test_the_reason_of_one_rank_ends_all_and_is_the_jobs(chain: Chain) -> None:
    """The other waits for it, and says of it that its connection is closed."""
    rewards = [{"function": f"{__name__}:broken_on_the_second_rank"}]
    with pytest.raises(JobFailed, match="broken_on_the_second_rank: 8 finite numbers were expected") as failure:
        run_ranks(chain, 2, "broken_rank", "rloo", steps=1, reward_model=None, rewards=rewards)
    assert "peer" not in str(failure.value)


@pytest.mark.slow
def test_ranks_under_deepspeeds_own_launcher_are_the_same(chain: Chain) -> None:
    options: dict[str, Any] = {"steps": 3, "eval_steps": 3, "launch": {"threads": 1}}
    forked = read_metrics(run_ranks(chain, 2, "sft_forked", "sft", **options))
    status, output = finish(start(chain.write_job("sft_launched", "sft", **options), ranks=2))
    assert status == 0, output
    assert read_metrics(chain.world / "sft_launched") == forked


def agree(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert [set(line) for line in one] == [set(line) for line in other]
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=2e-3, abs=2e-4), (a["step"], name)
