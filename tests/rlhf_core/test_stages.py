"""The stages on a toy world: what they learn, what they count, and that stopping in between changes nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_core.dataset.records import parse_record
from rlhf_core.job.errors import BadInput, TrainingFailed
from tests.rlhf_core import toy
from tests.rlhf_core.toy import Chain, killed_and_resumed, read_metrics, weights


def summary(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def test_pretraining_learns_and_reports_held_out_figures(chain: Chain) -> None:
    figures = summary(chain.world / "pretrain")
    lines = read_metrics(chain.world / "pretrain")
    assert figures["loss"] < 0.5 * lines[0]["loss"]
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]), rel=1e-5)
    assert 0 < figures["bits_per_byte"] < 2
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {line["tokens"] for line in lines} == {8 * 64}  # rows of the batch, and what each holds


def test_transformers_opens_every_model_without_this_project(chain: Chain) -> None:
    for stage in ("pretrain", "sft"):
        model = AutoModelForCausalLM.from_pretrained(chain.world / stage / "model")
        tokenizer = AutoTokenizer.from_pretrained(chain.world / stage / "model")
        assert model.config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    classifier = AutoModelForSequenceClassification.from_pretrained(chain.world / "reward" / "model")
    assert classifier.config.num_labels == 1


def test_transformers_reads_the_same_score_at_the_last_real_token(chain: Chain) -> None:
    from rlhf_core.dataset.batches import pad_right
    from rlhf_core.dataset.chat_template import Tokens, load_chat
    from rlhf_core.models.networks import last_tokens, load_scalar

    source = str(chain.world / "reward" / "model")
    chat = load_chat(source)
    rows = [[5, 9, 12, 33], [5, 9]]
    batch = pad_right([Tokens(row, [True] * len(row)) for row in rows], chat.pad_id)
    ours = load_scalar(source, chat, "fp32", 0).eval()
    theirs = AutoModelForSequenceClassification.from_pretrained(source).eval()
    with torch.no_grad():
        mine = ours(batch.input_ids, last_tokens(batch.lengths, batch.input_ids.shape[1]))
        mask = (batch.input_ids != chat.pad_id).long()
        other = theirs(batch.input_ids, attention_mask=mask).logits.squeeze(1)
    assert torch.allclose(mine, other, atol=1e-5)


def test_the_reward_model_tells_good_from_bad_and_counts_pairs(chain: Chain) -> None:
    figures = summary(chain.world / "reward")
    assert figures["accuracy"] > 0.7
    # 60 prompts, half of them with 3 answers (3 pairs), half with 4 (6 pairs)
    assert figures["train_pairs"] == 30 * 3 + 30 * 6


def test_pairs_that_are_equal_after_cutting_are_dropped_and_counted(chain: Chain, tmp_path: Path) -> None:
    lines = [
        toy.record(0, [("user", "Say it.")], responses=["Orsk is a city.", "Orsk is a town.", "No."]),
        toy.record(1, [("user", "Say it.")], responses=["Orsk is a city.", "Orsk is a town."]),
    ]
    toy.write_lines(tmp_path / "train.jsonl", lines)
    toy.write_lines(tmp_path / "eval.jsonl", [])
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.settings import RewardStage
    from rlhf_core.stages.reward import read_rankings

    chat = load_chat(str(chain.world / "sft" / "model"))
    prompt = len(chat.prompts([parse_record(json.dumps(lines[1]))])[0])
    same = len(chat.plain([" Orsk is a"])[0])
    _, counts = read_rankings(
        tmp_path / "train.jsonl", chat, RewardStage(name="r", max_length=max(8, prompt + same))
    )
    assert (counts.prompts, counts.pairs, counts.equal_pairs, counts.single_answer_prompts) == (1, 2, 2, 1)


def test_the_k_way_loss_of_an_untrained_head_of_zeros_is_ln_2(chain: Chain) -> None:
    from rlhf_core.losses import ranking_loss

    mask = torch.ones(4, 4, dtype=torch.bool).triu(1).expand(3, 4, 4)
    loss, _, _ = ranking_loss(torch.zeros(3, 4), mask)
    assert loss.item() / 3 == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "ppo"])
def test_a_resumed_run_equals_an_unbroken_one(chain: Chain, kind: str) -> None:
    """Killed in step 8 with a checkpoint at 6: the same metrics and the same weights, to the last digit."""
    options: dict[str, Any] = {"steps": 10, "checkpoint_steps": 3, "eval_steps": 4}
    if kind == "ppo":
        options |= {"ppo_epochs": 2, "minibatches": 2}
    whole = chain.run(f"{kind}_whole", kind, **options)
    resumed = killed_and_resumed(chain, 8, f"{kind}_broken", kind, **options)
    assert read_metrics(resumed) == read_metrics(whole)
    assert (resumed / "summary.json").read_text().split('"seconds"')[0] == (
        whole / "summary.json"
    ).read_text().split('"seconds"')[0]
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_micro_batches_change_nothing_but_noise(chain: Chain) -> None:
    one = read_metrics(chain.run("sft_one", "sft", steps=4))
    many = read_metrics(chain.run("sft_many", "sft", steps=4, launch={"micro_batch_size": 3, "threads": 1}))
    for a, b in zip(one, many, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_nan_is_an_error_that_names_the_step(chain: Chain) -> None:
    with pytest.raises(TrainingFailed, match="step"):
        chain.run(
            "sft_nan",
            "sft",
            steps=20,
            optimizer={"learning_rate": 1e30, "warmup_share": 0.0, "clip_grad_norm": 1e30},
        )
    assert not (chain.world / "sft_nan" / "summary.json").exists()


def test_inputs_that_cannot_be_used_are_named(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such"):
        chain.run("bad1", "sft", inputs={"data": str(tmp_path / "absent")})
    with pytest.raises(BadInput, match="positions"):
        chain.run("bad2", "sft", max_length=4096)
    toy.write_lines(tmp_path / "train.jsonl", [{"id": "x", "turns": []}])
    with pytest.raises(BadInput, match="line 1"):
        chain.run("bad3", "sft", inputs={"data": str(tmp_path)})
    with pytest.raises(BadInput, match="multiple"):
        chain.run("bad4", "ppo", minibatches=3)


def test_ppo_reports_everything_and_its_first_ratio_is_1(chain: Chain) -> None:
    output = chain.run("ppo", "ppo", ppo_epochs=2, minibatches=2, steps=3)
    line = read_metrics(output)[-1]
    wanted = "reward kl entropy clip_share value_error length finished_share distinct_2 negative_kl_share eval_reward"
    assert set(wanted.split()) <= set(line)
    assert line["tokens"] == pytest.approx(16 * line["length"])  # 16 answers
    figures = summary(output)
    assert {"reward_before", "reward_after", "kl", "finished_share"} <= set(figures)
    assert abs(figures["kl_before"]) < 1e-4
    assert (output / "samples.jsonl").exists()


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 2)])
def test_the_ratio_of_the_first_minibatch_of_the_first_epoch_is_exactly_1(
    chain: Chain, epochs: int, minibatches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.stages import policy_gradient as ppo

    ratios: list[torch.Tensor] = []
    plain = ppo.policy_loss

    def recording(logprobs: torch.Tensor, old: torch.Tensor, *rest: Any) -> Any:
        ratios.append((logprobs - old).detach().exp())
        return plain(logprobs, old, *rest)

    monkeypatch.setattr(ppo, "policy_loss", recording)
    chain.run(f"ratio{epochs}", "ppo", ppo_epochs=epochs, minibatches=minibatches, steps=2)
    updates = epochs * minibatches
    for first in ratios[::updates]:
        assert bool((first == 1).all())
    if updates > 1:
        assert not bool((ratios[1] == 1).all())


def test_a_critic_starts_in_the_unit_of_the_rewards_whatever_the_reward_models_was(chain: Chain, tmp_path: Path) -> None:
    """Rewards are normalised, so a reward model that says everything fifty times as loud, from elsewhere, changes nothing;
    its critic, which starts from it, must not be fifty times off."""
    loud = tmp_path / "loud"
    shutil.copytree(chain.world / "reward" / "model", loud)
    model = AutoModelForSequenceClassification.from_pretrained(loud)
    model.score.weight.data *= 50
    model.config.score_shift = 50 * getattr(model.config, "score_shift", 0.0) + 300
    model.save_pretrained(loud)
    first = [
        read_metrics(chain.run(name, "ppo", inputs, steps=1))[0]
        for name, inputs in (("quiet", {}), ("loud", {"reward_model": str(loud)}))
    ]
    for name in ("reward", "value_error", "return"):
        assert first[0][name] == pytest.approx(first[1][name], rel=1e-3, abs=1e-4), name


def test_a_reward_that_is_only_watched_is_no_start_of_a_critic(chain: Chain) -> None:
    """Its values would be 0 times what the critic says: it could learn nothing."""
    watched = [{"model": "reward", "weight": 0.0}, {"model": "reward"}]
    models = {f"reward_{number}": str(chain.world / "reward") for number in (1, 2)}
    stage = chain.built("ppo", models, reward_model=None, rewards=watched)
    stage.begin({})
    assert stage.scoring.critic_source == "reward_2" and stage.actor.scale > 0


def test_ppo_climbs_a_reward_that_can_be_hacked(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that pays for length alone: the policy soon writes all it may, far from where it began."""
    from rlhf_core.rewards.sources import RewardModel

    def count(self: Any, rollout: Any, prompts: Any, texts: Any) -> torch.Tensor:
        return rollout.lengths.float()

    monkeypatch.setattr(RewardModel, "score_rollout", count)
    output = chain.run(
        "hacked", "ppo", steps=30, batch_size=32, kl_coef=0.0, reward_normalisation="none", reward_clip=100.0,
        missing_end_penalty=0.0, optimizer={"learning_rate": 5e-3, "schedule": "constant"}, value_learning_rate=1e-2,
    )  # fmt: skip
    lines = read_metrics(output)
    assert lines[0]["reward"] < 8.0
    assert lines[-1]["reward"] > 11.0
    assert lines[-1]["kl"] > lines[0]["kl"] + 2.0


@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "dpo"])
def test_a_rank_that_has_no_example_left_adds_nothing(chain: Chain, kind: str) -> None:
    """It runs the model all the same, forwards and backwards."""
    stage = chain.built(kind, steps=1)
    loss, sums = stage.micro_loss([])
    assert float(loss.detach()) == 0.0 and all(float(value) == 0.0 for value in sums.values())
    stage.engine.backward(loss)
    assert all(not parameter.grad.any() for parameter in stage.engine.module.parameters() if parameter.grad is not None)
