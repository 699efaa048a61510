"""Reward against KL over a policy's checkpoints: a point is what evaluating the model of that step once more gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.prompts import read_prompts
from rlhf_core.evaluation import drift
from rlhf_core.evaluation.candidate import Candidate, load_candidate
from rlhf_core.generation.rollout import generate, noise
from rlhf_core.job.inputs import Inputs
from rlhf_core.models.networks import load_scalar
from rlhf_core.rewards.sources import RewardModel
from tests.rlhf_core.toy import Chain

TOKENS, SEED, PROMPTS = 12, 1, 16


def measured(source: Path, sft: Candidate, scorer: RewardModel, prompts: list[Any]) -> tuple[float, float]:
    """Mean score, and mean KL to the SFT model, of a model's answers to the held-out prompts."""
    candidate = load_candidate(Inputs({"ppo:x": str(source)}), "ppo:x", torch.device("cpu"))
    rollout = generate(candidate.policy.model, candidate.chat, candidate.encode(prompts), TOKENS, 1.0, noise(SEED, 0, len(prompts), TOKENS))
    nats = drift.kl_to(sft, candidate, [rollout])
    texts = [candidate.chat.decode(ids) for ids in rollout.responses()]
    return float(scorer.score_rollout(rollout, prompts, texts).mean()), sum(nats) / len(nats)


@pytest.mark.parametrize("kind", ["ppo", "raft"])
def test_a_curves_points_are_what_its_checkpoints_measure(chain: Chain, kind: str) -> None:
    output = chain.run(f"drift_{kind}", kind, steps=3, eval_steps=1, seed=SEED, eval_prompts=PROMPTS, max_new_tokens=TOKENS, optimizer={"learning_rate": 3e-3})
    found = drift.curve(output)
    assert [point["step"] for point in found["held_out"]] == [0, 1, 2, 3] and [point["step"] for point in found["training"]] == [1, 2, 3]
    sft = load_candidate(Inputs({"sft:sft": str(chain.world / "sft")}), "sft:sft", torch.device("cpu"))
    source = str(chain.world / "reward" / "model")
    chat = load_chat(source)
    scorer = RewardModel(load_scalar(source, chat, "fp32", 0), chat, sft.chat, torch.device("cpu"))
    prompts = [record for record, _ in read_prompts(chain.world / "splits" / "ppo" / "eval.jsonl", sft.chat, 64)[0]][:PROMPTS]
    for point, folder in ((found["held_out"][0], chain.world / "sft"), (found["held_out"][-1], output)):
        reward, kl = measured(folder, sft, scorer, prompts)
        assert point["reward"] == pytest.approx(reward, abs=2e-3)
        assert point["kl"] == pytest.approx(kl, abs=2e-3)
    assert found["held_out"][0]["kl"] == pytest.approx(0.0, abs=1e-4) and abs(found["held_out"][-1]["kl"]) > 1e-2


def test_a_stage_without_rollouts_has_no_curve(tmp_path: Path) -> None:
    assert drift.curve(tmp_path) == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "summary.json").write_text('{"loss": 2.0}')
    assert drift.curve(tmp_path) == {}
