"""What DeepSpeed does with a model: LAMB, bf16, and that a run goes on as if unbroken under every stage of ZeRO."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from rlhf_core.engine import start
from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import Launch
from tests.rlhf_core.toy import Chain, killed_and_resumed, read_metrics, weights


def test_a_run_is_a_plain_loop_of_transformers_and_torch(chain: Chain) -> None:
    """The same rows one by one, torch's AdamW and clipping, the rate of each step: the same losses and weights. (A large eps:
    by a small one Adam makes whole steps of gradients that are noise.)"""
    optimizer = {"learning_rate": 2e-3, "weight_decay": 0.1, "clip_grad_norm": 0.5, "eps": 1e-4}
    output = chain.run("engine_loop", "sft", steps=5, eval_steps=5, optimizer=optimizer)
    stage = chain.built("sft", steps=5, optimizer=optimizer)
    model = AutoModelForCausalLM.from_pretrained(chain.world / "pretrain" / "model")
    parameters = dict(model.named_parameters())
    decayed = {name for name, p in parameters.items() if p.ndim == 2 and "embed" not in name}
    groups = [
        {"params": [p for name, p in parameters.items() if (name in decayed) is decays], "weight_decay": 0.1 * decays}
        for decays in (True, False)
    ]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-4)
    for step, line in enumerate(read_metrics(output), 1):
        rows = [stage.train[i] for i in stage.order.batch(step)]
        tokens = sum(sum(row.mask) for row in rows)
        nats = torch.zeros(())
        for row in rows:
            labels = [token if counts else -100 for token, counts in zip(row.ids, row.mask, strict=True)]
            mean = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([labels])).loss
            nats = nats + mean * sum(row.mask) / tokens
        adam.zero_grad()
        nats.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in adam.param_groups:
            group["lr"] = 2e-3 * learning_rate_share(step, 5, stage.settings.optimizer)
        adam.step()
        assert line["loss"] == pytest.approx(nats.item(), rel=1e-4)
        assert line["grad_norm"] == pytest.approx(float(norm), rel=1e-3) and norm > 0.5
    for name, value in weights(output).items():
        torch.testing.assert_close(value, parameters[name].detach(), rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("silence", "waits"), [(7200.0, 7200), (60.0, 600)])
def test_a_rank_waits_for_the_others_as_long_as_a_job_may_be_silent(silence: float, waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed

    given: dict[str, Any] = {}
    monkeypatch.setattr(deepspeed, "init_distributed", lambda **options: given.update(options))
    start(Launch(threads=1, silence_seconds=silence))
    assert given["timeout"].total_seconds() == waits


class LambKernel:
    """What DeepSpeed's CUDA kernel computes (You et al. 2020, algorithm 2), in torch: no card is here to run it on."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float, float]] = []  # norms of weight and update, and the weight's way, over the rate

    def lamb(
        self, p: Tensor, out: Tensor, m: Tensor, v: Tensor, grad: Tensor, rate: float, beta1: float, beta2: float,
        most: float, least: float, eps: float, scale: float, step: int, mode: int, corrected: int, decay: float,
    ) -> Tensor:  # fmt: skip
        grad = grad / scale
        m.mul_(beta1).add_(grad, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        first, second = (1 - beta1**step, 1 - beta2**step) if corrected else (1.0, 1.0)
        update = (m / first) / ((v / second).sqrt() + eps) + decay * p
        trust = (p.norm() / update.norm()).clamp(least, most) if p.norm() and update.norm() else torch.tensor(1.0)
        before = p.clone()
        p.sub_(rate * trust * update)
        self.steps.append((float(before.norm()), float(update.norm()), float((p - before).norm()) / rate))
        return trust


def test_lambs_steps_are_measured_by_layer_and_go_on_after_a_kill(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's own optimizer around a kernel that stands in for its CUDA one: every matrix reaches it by itself, and moves
    by its own norm."""
    from deepspeed.ops.op_builder import FusedLambBuilder

    kernel = LambKernel()
    monkeypatch.setattr(FusedLambBuilder, "load", lambda self: kernel)
    monkeypatch.setattr("rlhf_core.train.check_machine", lambda *_, **__: None)
    optimizer = {"kind": "lamb", "learning_rate": 2e-2, "weight_decay": 0.01, "warmup_share": 0.0}
    options: dict[str, Any] = {"steps": 6, "checkpoint_steps": 2, "eval_steps": 6, "optimizer": optimizer}
    whole = chain.run("lamb_whole", "sft", **options)
    lines = read_metrics(whole)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert len(kernel.steps) == 6 * len(weights(whole))
    for weight, update, way in kernel.steps:
        if 0.01 < weight / update < 10:  # DeepSpeed's bounds on the ratio
            assert way == pytest.approx(weight, rel=1e-3)
    resumed = killed_and_resumed(chain, 6, "lamb_broken", "sft", **options)
    assert read_metrics(resumed) == lines
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_bf16_learns_what_fp32_learns_and_leaves_bf16(chain: Chain, kind: str) -> None:
    """Weights of eight bits move in steps, so the second loss may lag behind; the first and what is learned agree."""
    options: dict[str, Any] = {"steps": 12, "eval_steps": 12}
    fine = read_metrics(chain.run(f"{kind}_fp32", kind, **options))
    coarse = read_metrics(chain.run(f"{kind}_bf16", kind, **options, precision="bf16"))
    assert coarse[0]["loss"] == pytest.approx(fine[0]["loss"], rel=0.01)
    assert coarse[-1]["loss"] == pytest.approx(fine[-1]["loss"], rel=0.1)
    assert fine[-1]["loss"] < 0.5 * fine[0]["loss"]
    assert {value.dtype for value in weights(chain.world / f"{kind}_bf16").values()} == {torch.bfloat16}


ADAPTERS = {"learning_rate": 1e-3, "lora": {"rank": 4, "learning_rate": 1e-2}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "zero", "more"),
    [
        ("sft", 0, {"precision": "bf16"}),
        ("sft", 1, {}),
        ("sft", 2, {"precision": "bf16", "optimizer": ADAPTERS}),
        ("reward", 3, {"precision": "bf16"}),
        ("dpo", 3, {"optimizer": ADAPTERS}),
        ("ppo", 3, {"precision": "bf16", "ema_decay": 0.5, "ppo_epochs": 2, "minibatches": 2}),
        ("raft", 3, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_resumed_run_equals_an_unbroken_one_under_zero(chain: Chain, kind: str, zero: int, more: dict[str, Any]) -> None:
    """Killed in step 5 with a checkpoint at 4: the same metrics and the same weights, to the last digit."""
    launch = {"threads": 1, "zero_stage": zero}
    options: dict[str, Any] = {"steps": 6, "checkpoint_steps": 2, "eval_steps": 3, "launch": launch, **more}
    name = f"{kind}_zero{zero}_{'_'.join(more)}"
    whole = chain.run(f"{name}_whole", kind, **options)
    resumed = killed_and_resumed(chain, 5, f"{name}_broken", kind, **options)
    assert read_metrics(resumed) == read_metrics(whole)
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(resumed).items())
