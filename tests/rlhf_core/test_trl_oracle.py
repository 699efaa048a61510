"""Our formulas on the inputs of one PPO iteration of TRL 1.12 give what TRL computed (trl_oracle.json).

The numbers are recorded by benchmarks/_trl_oracle.py in TRL's own environment: TRL is too heavy for a test dependency.
TRL differs in two conventions. It pays the score one position behind an answer that ended, where we pay it at the end
token; its formula is ours on a mask that is one token longer. And it whitens by the sample's deviation, not the
population's.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core import losses

END = 1  # the recording's end token


@pytest.fixture(scope="module")
def trl() -> dict[str, Any]:
    recorded = json.loads(Path(__file__).with_name("trl_oracle.json").read_text())
    as_tensors = {name: value for name, value in recorded.items() if name not in ("settings", "means", "log")}
    return {**recorded, **{name: torch.tensor(value) for name, value in as_tensors.items()}}


@pytest.fixture(scope="module")
def longer(trl: dict[str, Any]) -> torch.Tensor:
    """The mask with one more token in every row that has room."""
    lengths = trl["mask"].sum(1, keepdim=True)
    return torch.arange(trl["mask"].shape[1]) <= lengths


def kl(trl: dict[str, Any]) -> torch.Tensor:
    return torch.where(trl["mask"], losses.kl_estimate(trl["logprobs"], trl["ref_logprobs"]), 0.0)


def returns(trl: dict[str, Any], longer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    settings = trl["settings"]
    finished = (trl["labels"] == END).any(1)
    scores = torch.where(finished, trl["scores"], trl["scores"] - settings["penalty"])
    rewards = losses.shaped_rewards(scores, kl(trl), longer, settings["kl_coef"])
    return losses.gae(rewards, trl["values"], longer, settings["gamma"], settings["lam"])


def test_logprobs(trl: dict[str, Any]) -> None:
    flat = losses.token_logprobs(trl["logits"].flatten(0, 1), trl["labels"].flatten())
    assert torch.allclose(flat, trl["logprobs"].flatten(), atol=1e-5)


def test_kl_of_a_response(trl: dict[str, Any]) -> None:
    assert float(kl(trl).sum(1).mean()) == pytest.approx(trl["log"]["objective/kl"], rel=1e-5)


def test_shaped_rewards_and_gae(trl: dict[str, Any], longer: torch.Tensor) -> None:
    advantages, _ = returns(trl, longer)
    assert trl["mask"].sum() >= 8, "the recording holds too few tokens to show anything"
    assert torch.allclose(advantages[trl["mask"]], trl["advantages"][trl["mask"]], atol=1e-5)


def test_whitening(trl: dict[str, Any]) -> None:
    mask = trl["mask"]
    count = int(mask.sum())
    ours = losses.whiten(trl["advantages"], mask)[mask] * math.sqrt((count - 1) / count)
    assert torch.allclose(ours, trl["whitened"][mask], atol=1e-5)


def test_the_value_loss_of_the_first_epoch(trl: dict[str, Any], longer: torch.Tensor) -> None:
    values, goal = trl["values"][longer], returns(trl, longer)[1][longer]
    loss, clipped = losses.value_loss(values, values, goal, trl["settings"]["clip"])
    assert 2 * float(loss) / int(longer.sum()) == pytest.approx(trl["means"][0], rel=1e-4)
    assert int(clipped) == trl["means"][1] == 0


def test_the_policy_loss_of_both_epochs(trl: dict[str, Any]) -> None:
    mask = trl["mask"]
    rows = trl["labels"].tolist()
    for epoch in (0, 1):
        order = [rows.index(row) for row in trl["new_labels"][epoch].tolist()]
        new = torch.empty_like(trl["logprobs"])
        new[order] = trl["new_logprobs"][epoch]
        loss, clipped = losses.policy_loss(
            new[mask], trl["logprobs"][mask], trl["whitened"][mask], trl["settings"]["clip"]
        )
        count = int(mask.sum())
        assert float(loss) / count == pytest.approx(trl["means"][4 * epoch + 2], abs=1e-5)
        assert int(clipped) / count == pytest.approx(trl["means"][4 * epoch + 3], abs=1e-6)
    assert trl["means"][7] > 0.1, "nothing was clipped: the recording shows too little"
