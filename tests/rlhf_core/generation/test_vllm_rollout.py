"""Answers from a server: the weights are handed over, its tokens are taken and nothing else, and it may fail."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.settings.alignment import VllmServer
from tests.rlhf_core.generation.vllm_stand_in import StandIn, stand_in
from tests.rlhf_core.toy import Chain, read_metrics, weights

FAST = {"optimizer": {"learning_rate": 1e-2, "warmup_share": 0.0}}


@pytest.fixture
def folder(chain: Chain, tmp_path: Path) -> Path:
    """A copy of the starting model, as it is served."""
    return shutil.copytree(chain.world / "sft" / "model", tmp_path / "served")


def run(chain: Chain, server: StandIn, name: str, kind: str = "rloo", **settings: Any) -> Path:
    vllm = {"url": server.url, "folder": str(server.folder), "timeout_seconds": 20} | settings.pop("vllm", {})
    shutil.rmtree(chain.world / ".work" / name, ignore_errors=True)
    return chain.run(name, kind, **{"steps": 3, "eval_steps": 3} | FAST | settings, vllm=vllm)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        pytest.param("rloo", {}, marks=pytest.mark.slow),
        ("ppo", {"ppo_epochs": 2, "minibatches": 2, "value_backbone": "shared"}),
        pytest.param(
            "grpo", {"optimizer": {"learning_rate": 1e-2, "lora": {"rank": 4, "learning_rate": 1e-2}}}, marks=pytest.mark.slow
        ),
    ],
)
def test_the_server_gets_every_update_and_the_first_ratio_is_1(
    chain: Chain, folder: Path, kind: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each update the server's weights are the policy's, adapters merged; the ratio comes from the policy alone."""
    from rlhf_core.generation.vllm_rollout import VllmRollout
    from rlhf_core.stages import policy_gradient

    ratios: list[torch.Tensor] = []
    plain = policy_gradient.policy_loss

    def recording(logprobs: torch.Tensor, old: torch.Tensor, *rest: Any) -> Any:
        ratios.append((logprobs - old).detach().exp())
        return plain(logprobs, old, *rest)

    monkeypatch.setattr(policy_gradient, "policy_loss", recording)
    handed: list[dict[str, torch.Tensor]] = []
    refresh = VllmRollout.refresh

    def kept(self: VllmRollout) -> None:
        refresh(self)
        handed.append({name: value.clone() for name, value in server.model.state_dict().items()})

    monkeypatch.setattr(VllmRollout, "refresh", kept)
    with stand_in(folder) as server:
        output = run(chain, server, f"served_{kind}", kind, **more)
        # the start, after each of three updates (the last for the held-out figures); rollouts read what is there
        assert len(handed) == server.cache_resets == 4
        assert server.loaded == 5
    saved = weights(output)
    assert all(torch.equal(value, saved[name]) for name, value in handed[-1].items() if name in saved)
    assert any(not torch.equal(value, handed[-1][name]) for name, value in handed[0].items())
    updates = len(ratios) // 3
    assert all(bool((first == 1).all()) for first in ratios[::updates])
    lines = read_metrics(output)
    assert all(abs(line["kl"]) < 1e-4 for line in lines[:1])
    assert lines[-1]["kl"] != 0.0


def test_requests_say_how_to_sample_and_rows_have_seeds_of_their_own(chain: Chain, folder: Path) -> None:
    with stand_in(folder) as server:
        run(chain, server, "asked", steps=1, temperature=0.7)
    bodies = server.asked
    assert len(bodies) == 16 + 16 + 8 + 8  # the yardstick, a rollout, the held-out prompts before and after
    assert all(body["temperature"] == 0.7 and body["top_p"] == 1.0 and body["top_k"] == -1 for body in bodies)
    assert all(body["return_token_ids"] and not any("logprob" in key for key in body) for body in bodies)
    rollout = bodies[24:40]
    assert len({body["seed"] for body in rollout}) == 16
    before, after = bodies[16:24], bodies[40:]
    assert {body["seed"] for body in before} == {body["seed"] for body in after}


def test_the_same_run_twice_gives_the_same_figures_and_a_slow_or_busy_server_changes_none(
    chain: Chain, folder: Path
) -> None:
    found = []
    for number, ways in enumerate(({}, {"delay": 0.005, "busy": 2})):
        served = shutil.copytree(folder, folder.with_name(f"again_{number}"))
        with stand_in(served, **ways) as server:
            found.append(read_metrics(run(chain, server, f"again_{number}", vllm={"requests": 4})))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_rollout_of_the_server_is_learned_from(chain: Chain, folder: Path) -> None:
    """A reward for capital letters climbs, as it does without a server."""
    options: dict[str, Any] = {
        "steps": 12, "batch_size": 32, "kl_coef": 0.0, "reward_normalisation": "none", "reward_clip": 100.0,
        "missing_end_penalty": 0.0, "optimizer": {"learning_rate": 5e-3, "schedule": "constant"}, "eval_steps": 12,
        "reward_model": None, "rewards": [{"function": "tests.rlhf_core.test_alignment:marks"}],
    }  # fmt: skip
    with stand_in(folder) as server:
        lines = read_metrics(run(chain, server, "served_climb", **options))
    assert lines[-1]["reward"] > lines[0]["reward"] + 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ids: None, "no token_ids"),
        (lambda ids: [], "returned 0 tokens"),
        (lambda ids: [5] * 40, "returned 40 tokens"),
        (lambda ids: [10**6], "vocabulary"),
    ],
)
def test_answers_that_cannot_be_are_refused(chain: Chain, folder: Path, spoil: Any, message: str) -> None:
    with stand_in(folder, spoil=spoil) as server, pytest.raises(TrainingFailed, match=message):
        run(chain, server, "spoiled")


def test_what_follows_the_end_token_is_cut(chain: Chain, folder: Path) -> None:
    """Other servers may go on; the mask ends where the policy ended."""
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.generation.rollout import from_answers

    chat = load_chat(str(folder))
    rollout = from_answers([[5], [6]], [[9, chat.end_id, 7, 7], [9, 9]], 4, chat, torch.device("cpu"))
    assert rollout.responses() == [[9, chat.end_id], [9, 9]]
    assert rollout.finished.tolist() == [True, False]
    assert rollout.response_ids[0, 2:].tolist() == [chat.pad_id] * 2


def test_a_server_that_dies_or_hangs_ends_the_run_with_a_reason_and_the_run_goes_on_with_the_next(
    chain: Chain, folder: Path
) -> None:
    with stand_in(folder) as server:
        whole = run(chain, server, "alive", checkpoint_steps=1)
    first = shutil.copytree(chain.world / "sft" / "model", folder.with_name("dying"))
    # 16 + 8 before the first step, 16 a step
    with stand_in(first, dies_after=45) as server, pytest.raises(TrainingFailed, match="last checkpoint is kept"):
        run(chain, server, "dying", checkpoint_steps=1)
    with stand_in(first) as server:
        vllm = {"url": server.url, "folder": str(first)}  # another URL: still the same run
        resumed = chain.run("dying", "rloo", steps=3, eval_steps=3, checkpoint_steps=1, vllm=vllm, **FAST)
    assert read_metrics(resumed) == read_metrics(whole)
    with stand_in(first, delay=1.0) as server, pytest.raises(TrainingFailed, match=r"timeout_seconds = 0\.1"):
        run(chain, server, "hanging", vllm={"timeout_seconds": 0.1})


def test_servers_that_cannot_be_used_are_named(chain: Chain, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(folder, root="/elsewhere") as server, pytest.raises(TrainingFailed, match=r"vllm serve .*served"):
        run(chain, server, "elsewhere")
    with pytest.raises(TrainingFailed, match="no vLLM server answers"):
        run(chain, StandIn(folder, url="http://127.0.0.1:9"), "nobody")
    start = chain.world / "sft" / "model"
    with pytest.raises(BadInput, match="overwritten"):
        run(chain, StandIn(start, url="http://127.0.0.1:9"), "itself")
    with pytest.raises(BadInput, match=r"crawl2chat\[vllm\]"):
        chain.run("absent", "rloo", steps=1, vllm={})
    with pytest.raises(ValueError, match="go together"):
        VllmServer(url="http://x")


@pytest.mark.slow
def test_a_server_of_the_jobs_own_is_started_and_ended(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m vllm.entrypoints.cli.main serve FOLDER ...` is a stand-in module here: how it is called is ours."""
    import gc
    import subprocess

    from rlhf_core.generation import vllm_rollout

    package = tmp_path / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()  # before a vLLM that may be installed
    (package / "main.py").write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.rlhf_core.generation.vllm_stand_in import serve\n"
        "arguments = sys.argv[1:]\n"
        "assert arguments[0] == 'serve' and '--dtype' in arguments\n"
        "serve(Path(arguments[1]), int(arguments[arguments.index('--port') + 1]))\n"
    )
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    monkeypatch.syspath_prepend(str(tmp_path))
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def recorded(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(vllm_rollout.subprocess, "Popen", recorded)
    output = chain.run("own_server", "rloo", steps=1, vllm={})
    assert read_metrics(output)[0]["ratio"] == 1.0
    gc.collect()
    (server,) = [process for process in started if "serve" in process.args]
    assert server.wait(15) is not None
