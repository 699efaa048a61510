"""Options that no stage's own tests show: each does what its description says, by hand arithmetic or beside a run without it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.engine import Engine, Ranks
from rlhf_core.job.errors import BadInput
from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import (
    BestOfNStage,
    DpoStage,
    GrpoStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    RlooStage,
    SftStage,
)
from rlhf_core.stages.actors import Pass
from rlhf_core.stages.dpo import answer_logprobs, read_pairs
from rlhf_core.stages.group import Grpo, Rloo
from rlhf_core.stages.on_policy import OnPolicy
from rlhf_core.stages.reward import read_rankings
from tests.rlhf_core import toy
from tests.rlhf_core.toy import Chain, read_metrics, weights

NOTHING = "tests.rlhf_core.test_alignment:nothing"


# What a loss is made of


@pytest.mark.parametrize("kind", ["pretrain", "sft"])
def test_a_loss_is_transformers_own_row_by_row(chain: Chain, kind: str) -> None:
    """Neither padding, packing nor the batch's other rows change what a token costs; of a conversation its answers count."""
    source = chain.world / "pretrain"
    stage = chain.built(kind, {"init": str(source)})
    model = AutoModelForCausalLM.from_pretrained(source / "model").eval()
    nats, count = 0.0, 0
    for place in stage.order.batch(1):
        if kind == "sft":
            ids = stage.train[place].ids
            labels = [token if counts else -100 for token, counts in zip(ids, stage.train[place].mask, strict=True)]
        else:
            ids = labels = stage.blocks[[place]][0].tolist()
        counted = sum(label != -100 for label in labels[1:])
        with torch.no_grad():
            nats += float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss) * counted
        count += counted
    assert stage.step(1, 0.0)["loss"] == pytest.approx(nats / count, rel=1e-5)


def test_centring_is_added_with_its_weight(chain: Chain) -> None:
    stage = chain.built("reward", center_coef=0.3)
    prompts = [0, 1, 5]
    with torch.no_grad():
        loss, _ = stage.micro_loss(prompts)
        scores, _ = stage._score([stage.train[i] for i in prompts])
    wanted = 0.0
    for row, place in zip(scores, prompts, strict=True):
        k = len(stage.train[place].answers)
        pairs = [(float(row[i]), float(row[j])) for i in range(k) for j in range(i + 1, k)]
        wanted += sum(math.log1p(math.exp(worse - better)) + 0.3 * (better + worse) ** 2 for better, worse in pairs) / len(pairs)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


class Recorded:
    """An actor that says the same whatever it reads, and keeps the losses it is given."""

    def __init__(self, said: Pass) -> None:
        self.said = said
        self.losses: list[float] = []

    def __call__(self, *_: Any) -> Pass:
        return self.said

    def backward(self, loss: Any) -> None:
        self.losses.append(float(loss))

    def step(self, rate_share: float) -> dict[str, float]:
        return {}


MASK = torch.tensor([[True, True], [True, False]])
OLD, REF = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]]), torch.tensor([[-1.2, -1.9], [-1.0, 0.0]])


def group(kind: Any, settings: Any) -> Any:
    """A stage whose two answers to one prompt are scored 1 and 3; the policy is still the one that wrote them."""
    stage: Any = object.__new__(kind)
    stage.settings, stage.kl_coef, stage.ranks = settings, settings.kl_coef, Ranks(0, 1, torch.device("cpu"))
    stage.micro, stage.accumulation, stage.ptx = 2, 1, None
    stage.actor = Recorded(Pass(lambda: (OLD[MASK], torch.ones(3)), lambda: None))
    stage.sequences = lambda rollout: SimpleNamespace(rows=lambda rows: None)
    stage.reference_logprobs = lambda answers, sequences, live: (OLD, REF)
    return stage


ANSWERS: Any = SimpleNamespace(rollout=SimpleNamespace(response_mask=MASK), scores=torch.tensor([1.0, 3.0]))


@pytest.mark.parametrize(("mean_over", "by_token"), [("response", [[-0.5, -0.5], [1.0, 0.0]]), ("batch", [[-1.0, -1.0], [1.0, 0.0]])])
def test_grpos_loss_by_hand(mean_over: Any, by_token: list[list[float]]) -> None:
    settings = GrpoStage(name="g", reward_model="m", samples=2, scale_advantages=False, mean_over=mean_over, kl_coef=0.2)
    stage = group(Grpo, settings)
    data, kl = stage.experience(ANSWERS, None)
    assert data.advantages.tolist() == by_token  # scores less their mean 2, over the answer's length or not
    assert kl[MASK].tolist() == pytest.approx([0.2, -0.1, 0.5])
    stage._update(data, 0, 1, 1.0, None)
    k3 = [math.exp(-away) - 1 + away for away in (0.2, -0.1, 0.5)]
    wanted = {
        # the mean over the two answers of the mean over their tokens; the advantages cancel out
        "response": 0.2 * ((k3[0] + k3[1]) / 2 + k3[2]) / 2,
        # the mean over the three tokens: two of advantage -1, one of advantage 1
        "batch": 1 / 3 + 0.2 * sum(k3) / 3,
    }
    assert stage.actor.losses == [pytest.approx(wanted[mean_over], rel=1e-5)]


def test_groups_are_divided_by_their_deviation_where_it_is_asked_for() -> None:
    settings = GrpoStage(name="g", reward_model="m", samples=2, mean_over="batch")
    data, _ = group(Grpo, settings).experience(ANSWERS, None)
    assert data.advantages[MASK].tolist() == pytest.approx([-1 / math.sqrt(2)] * 2 + [1 / math.sqrt(2)], rel=1e-3)


def test_rloo_charges_an_answer_its_whole_kl() -> None:
    """Rewards 1 - 2 (0.2 - 0.1) and 3 - 2 (0.5): 0.8 and 2; each less the other."""
    stage = group(Rloo, RlooStage(name="r", reward_model="m", samples=2, kl_coef=2.0))
    data, _ = stage.experience(ANSWERS, None)
    assert data.advantages[MASK].tolist() == pytest.approx([-1.2, -1.2, 1.2])
    stage._update(data, 0, 1, 1.0, None)
    assert stage.actor.losses == [pytest.approx((2 * 1.2 - 1.2) / 2)]  # the mean over answers


def test_an_entropy_bonus_is_all_that_moves_a_policy_without_rewards(chain: Chain) -> None:
    options: dict[str, Any] = {
        "steps": 6, "kl_coef": 0.0, "reward_normalisation": "none", "missing_end_penalty": 0.0, "eval_prompts": 1,
        "reward_model": None, "rewards": [{"function": NOTHING}], "optimizer": {"learning_rate": 3e-3, "warmup_share": 0.0},
    }  # fmt: skip
    output = chain.run("no_bonus", "rloo", **options)
    begin = weights(chain.world / "sft")
    assert all(torch.equal(value, begin[name]) for name, value in weights(output).items())
    lines = read_metrics(chain.run("bonus", "rloo", **options, entropy_coef=1.0))
    assert lines[-1]["entropy"] > 1.2 * lines[0]["entropy"]


def test_label_smoothing_pulls_back_from_certainty(chain: Chain) -> None:
    """At the loss's minimum the odds are (1 - s) : s; far beyond it a smoothed pair costs more."""
    plain, smooth = (chain.built("dpo", label_smoothing=share, reference_free=True, beta=1.0) for share in (0.0, 0.2))
    with torch.no_grad():
        (one, _), (other, _) = (stage._loss(stage.train[:4]) for stage in (plain, smooth))
        rows = [[pair.chosen for pair in plain.train[:4]], [pair.rejected for pair in plain.train[:4]]]
        chosen, rejected = (answer_logprobs(plain.engine, part, plain.chat, torch.device("cpu")) for part in rows)
    logits = chosen - rejected
    assert float(one) == pytest.approx(float(-F.logsigmoid(logits).sum()), rel=1e-5)
    assert float(other) == pytest.approx(float(-(0.8 * F.logsigmoid(logits) + 0.2 * F.logsigmoid(-logits)).sum()), rel=1e-5)


# What is learned from


LENGTH: dict[str, Any] = {
    "sft": len,
    "reward": lambda prompt: max(map(len, prompt.answers)),
    "dpo": lambda pair: max(len(pair.chosen), len(pair.rejected)),
}


@pytest.mark.parametrize("kind", list(LENGTH))
def test_length_grouping_pads_less(chain: Chain, kind: str) -> None:
    def padding(on: bool) -> int:
        stage = chain.built(kind, length_grouping=on, batch_size=4)
        lengths = [LENGTH[kind](example) for example in stage.train]
        batches = [[lengths[i] for i in stage.order.batch(step)] for step in range(1, len(lengths) // 4 + 1)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(True) < 0.5 * padding(False)


def test_blended_conversations_come_as_often_as_they_were_asked_for(chain: Chain, tmp_path: Path) -> None:
    """Two and a half passes over four of them; `data` once."""
    toy.write_lines(tmp_path / "train.jsonl", [toy.record(i, [("user", f"Say {i}."), ("assistant", f"{i}.")]) for i in range(4)])
    alone, blended = chain.built("sft"), chain.built("sft", {"data_1": str(tmp_path)}, blend={"more": 2.5})
    assert blended.train[: len(alone.train)] == alone.train
    texts = [blended.chat.tokenizer.decode(example.ids) for example in blended.train[len(alone.train) :]]
    assert sorted(texts.count(text) for text in set(texts)) == [2, 2, 3, 3]
    assert blended.steps == 60  # of STAGES


def test_blended_conversations_are_read_as_text_between_the_pages(chain: Chain) -> None:
    found = []
    for passes in (1.0, 3.0):
        stage = chain.built("pretrain", {"data_1": str(chain.world / "splits" / "sft")}, blend={"splits/sft": passes})
        mark = stage.chat.tokenizer.convert_tokens_to_ids("<|user|>")
        rows = stage.blocks[list(range(len(stage.blocks)))][:, 1:]  # their first token is the one before's last
        found.append(int((rows == mark).sum()))
    assert found[0] > 40
    assert found[1] == pytest.approx(3 * found[0], rel=0.05)  # the tail that fills no block is left out


def test_all_pairs_of_a_ranking_or_the_best_and_the_worst(chain: Chain) -> None:
    chat, path = load_chat(str(chain.world / "sft" / "model")), chain.world / "splits" / "reward" / "train.jsonl"
    every, _ = read_pairs(path, chat, DpoStage(name="d", pairs="all"))
    extreme, _ = read_pairs(path, chat, DpoStage(name="d"))
    ranked, counts = read_rankings(path, chat, RewardStage(name="r"))
    assert len(every) == counts.pairs == 30 * 3 + 30 * 6
    assert [(pair.chosen, pair.rejected) for pair in extreme] == [(one.answers[0], one.answers[-1]) for one in ranked]
    assert [(pair.chosen, pair.rejected) for pair in every[:3]] == [
        (ranked[0].answers[i], ranked[0].answers[j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]


def test_of_many_answers_so_many_are_ranked_the_best_and_the_worst_among_them(chain: Chain) -> None:
    chat, path = load_chat(str(chain.world / "sft" / "model")), chain.world / "splits" / "reward" / "train.jsonl"
    whole, _ = read_rankings(path, chat, RewardStage(name="r"))
    for k in (2, 3):
        few, counts = read_rankings(path, chat, RewardStage(name="r", max_responses=k))
        assert counts.pairs == len(few) * k * (k - 1) // 2
        assert [(one.answers[0], one.answers[-1]) for one in few] == [(one.answers[0], one.answers[-1]) for one in whole]


def test_margins_follow_the_ratings_where_there_are_some(chain: Chain, tmp_path: Path) -> None:
    lines = [
        toy.record(0, [("user", "Say it.")], responses=["Orsk.", "Tarn.", "Velm."], labels={"ratings": [9, 8, 2]}),
        toy.record(1, [("user", "Say it.")], responses=["Orsk.", "Tarn."]),
    ]
    for part in ("train", "eval"):
        toy.write_lines(tmp_path / f"{part}.jsonl", lines)
    stage = chain.built("reward", {"data": str(tmp_path)}, margin=0.5)
    margins = stage._margins(stage.train, torch.zeros(2, 3, 3))
    assert [float(margins[0, i, j]) for i, j in ((0, 1), (0, 2), (1, 2))] == [0.5, 3.5, 3.0]
    assert float(margins[1, 0, 1]) == 0.5  # a rank apart


def test_what_is_rated_alike_is_no_pair(chain: Chain, tmp_path: Path) -> None:
    """As in the evaluation: nobody preferred the one that stands first."""
    tie = toy.record(0, [("user", "Say it.")], responses=["Orsk.", "Tarn.", "Velm."], labels={"ratings": [5, 5, 2]})
    only = toy.record(1, [("user", "Say it.")], responses=["Orsk.", "Tarn."], labels={"ratings": [5, 5]})
    path = tmp_path / "train.jsonl"
    toy.write_lines(path, [tie, only])
    chat = load_chat(str(chain.world / "tokenizer"))
    [ranked], counts = read_rankings(path, chat, RewardStage(name="r"))
    assert [(i, j) for i in range(3) for j in range(3) if ranked.pairs[i][j]] == [(0, 2), (1, 2)]
    assert (counts.pairs, counts.equal_pairs, counts.single_answer_prompts) == (2, 2, 1)
    for pairs, learned, alike in (("all", 2, 2), ("best_worst", 1, 1)):
        found, dropped = read_pairs(path, chat, DpoStage(name="d", pairs=pairs))
        assert (len(found), dropped["equal_pairs"]) == (learned, alike)
    toy.write_lines(path, [only | {"labels": {"ratings": [5, float("nan")]}}])
    with pytest.raises(BadInput, match=r"record r1: labels.ratings must be finite"):
        read_rankings(path, chat, RewardStage(name="r"))


def test_ratings_that_contradict_the_order_are_counted_and_those_of_another_length_refused(chain: Chain, tmp_path: Path) -> None:
    """They were counted as equal pairs; ratings of another length were passed over, and ranks taken in their place."""
    path, chat = tmp_path / "train.jsonl", load_chat(str(chain.world / "tokenizer"))
    ranked = toy.record(0, [("user", "Say it.")], responses=["Orsk.", "Tarn.", "Velm.", "Velm."], labels={"ratings": [5, 6, 5, 4]})
    toy.write_lines(path, [ranked])
    _, counts = read_rankings(path, chat, RewardStage(name="r"))
    pairs, dropped = read_pairs(path, chat, DpoStage(name="d", pairs="all"))
    assert counts.pairs == len(pairs) == 3
    assert (counts.equal_pairs, counts.contradicted_pairs) == (dropped["equal_pairs"], dropped["contradicted_pairs"]) == (2, 1)
    for ratings in ([5, 6, 5], {"Orsk.": 5}):
        toy.write_lines(path, [ranked | {"labels": {"ratings": ratings}}])
        for read in (lambda: read_rankings(path, chat, RewardStage(name="r")), lambda: read_pairs(path, chat, DpoStage(name="d"))):
            with pytest.raises(BadInput, match=r"record r0: labels.ratings must be a number for each of its 4 responses"):
                read()


@pytest.mark.parametrize("kind", ["ppo", "raft"])
def test_the_gradient_norm_of_several_updates_is_their_mean(chain: Chain, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It was the last update's, beside figures that are means."""
    norms: list[float] = []
    take = Engine.step

    def taken(engine: Engine, rate: float) -> float:
        norms.append(take(engine, rate))
        return norms[-1]

    monkeypatch.setattr(Engine, "step", taken)
    updates: dict[str, Any] = {"ppo": {"ppo_epochs": 2, "minibatches": 2}, "raft": {"passes": 3}}
    figures = chain.built(kind, **updates[kind]).step(1, 1.0)
    policy = norms[::2] if kind == "ppo" else norms
    assert len(set(policy)) > 1 and figures["grad_norm"] == pytest.approx(sum(policy) / len(policy))
    if kind == "ppo":
        assert figures["value_grad_norm"] == pytest.approx(sum(norms[1::2]) / len(norms[1::2]))


noted: list[str] = []


def note(prompts: list[Any], answers: list[str]) -> list[float]:
    noted.extend(answers)
    return [float(len(answer)) for answer in answers]


def test_a_reward_reads_an_answer_up_to_the_mark_at_which_it_is_cut(chain: Chain) -> None:
    """The mark is the policy's own doing and counts as its tokens, but the answer does not say it."""
    stage = chain.built("rloo", reward_model=None, rewards=[{"function": f"{__name__}:note"}], cut_marks=["."])
    noted.clear()
    answers = stage.roll(1)
    written = [stage.chat.decode(ids) for ids in answers.rollout.responses()]
    assert any("." in text for text in written) and not any("." in text for text in noted)
    assert noted == answers.texts == [text.split(".")[0].strip() for text in written]
    noted.clear()
    stage.begin({})  # the yardstick, and the held-out prompts
    assert len(noted) == 16 + 8 and not any("." in text for text in noted)


# How long, how fast


def test_every_rollout_has_a_limit_of_its_own_between_the_bounds(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    write = OnPolicy._write

    def watched(self: Any, step: int, seed_step: int, limit: int) -> Any:
        if step == seed_step:  # not the first look at the starting policy
            limits.append(limit)
        return write(self, step, seed_step, limit)

    monkeypatch.setattr(OnPolicy, "_write", watched)
    lines = read_metrics(chain.run("limits", "rloo", steps=8, batch_size=4, eval_prompts=1, min_new_tokens=2, max_new_tokens=9))
    assert min(limits) >= 2 and max(limits) <= 9 and len(set(limits)) > 3
    assert all(line["length"] <= limit for line, limit in zip(lines, limits, strict=True))


@pytest.mark.parametrize("schedule", ["wsd", "wcsd"])
def test_the_optimizer_has_the_rate_of_the_schedule(chain: Chain, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"schedule": schedule, "learning_rate": 2e-3, "warmup_share": 0.2, "decay_share": 0.3}
    rates: list[set[float]] = []
    step = Engine.step

    def watched(self: Engine, rate: float) -> float:
        norm = step(self, rate)
        rates.append({group["lr"] for group in self.engine.optimizer.param_groups})
        return norm

    monkeypatch.setattr(Engine, "step", watched)
    stage = SftStage.model_validate({"name": "s", "optimizer": options})
    lines = read_metrics(chain.run(f"rates_{schedule}", "sft", steps=10, eval_steps=10, optimizer=options))
    wanted = [2e-3 * learning_rate_share(step, 10, stage.optimizer) for step in range(1, 11)]
    assert [rate for found in rates for rate in found] == pytest.approx(wanted)
    assert [line["learning_rate"] for line in lines] == pytest.approx(wanted, rel=1e-4)
    assert len(set(wanted)) > 3


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        (SftStage, {"steps": 4, "epochs": 1.0}, "not both"),
        (PpoStage, {"reward_model": "r", "epochs": 1.0}, "counts iterations: steps"),
        (PretrainStage, {"length_grouping": True}, "length_grouping"),
        (SftStage, {"optimizer": {"kind": "lamb"}, "launch": {"zero_stage": 1}}, "lamb needs"),
        (SftStage, {"optimizer": {"kind": "lamb"}, "precision": "bf16"}, "lamb needs"),
        (BestOfNStage, {"reward_model": "r", "samples": 2, "keep": 3}, r"keep: 3 .* 2 \(samples\)"),
        (BestOfNStage, {"reward_model": "r", "reward_normalisation": "running"}, "reward_normalisation: running .* the pool"),
        (RlooStage, {"reward_model": "r", "min_new_tokens": 64, "max_new_tokens": 32}, r"min_new_tokens: 64 .* \(32\)"),
        (DpoStage, {"pairs_from": "samples", "data": "splits/ppo", "reward_model": "r", "min_new_tokens": 2}, "min_new_tokens"),
        (DpoStage, {"loss": "hinge", "label_smoothing": 0.1}, "label_smoothing: of the sigmoid loss"),
        (DpoStage, {"reward_model": "r"}, "reward_model: pairs of the data are neither written nor scored"),
        (DpoStage, {"rewards": [{"model": "r"}]}, "rewards: pairs of the data are neither"),
        (DpoStage, {"samples": 4}, "samples: pairs of the data are neither"),
        (DpoStage, {"temperature": 0.7}, "temperature: pairs of the data are neither"),
        (DpoStage, {"pattern_penalties": [{"pattern": "#"}]}, "pattern_penalties: pairs of the data are neither"),
        (DpoStage, {"pairs_from": "samples", "data": "splits/ppo", "reward_model": "r", "pairs": "all"}, "pairs: all is of rankings"),
        (
            DpoStage,
            {"pairs_from": "samples", "data": "splits/ppo", "reward_model": "r", "reward_normalisation": "running"},
            "reward_normalisation: dpo answers once",
        ),
        (PpoStage, {"reward_model": "r", "value_init": "v", "value_backbone": "shared"}, "value_init"),
        (PretrainStage, {"data": "mixture", "blend": {"splits/sft": 2.0}}, "blend: a mixture's plan"),
    ],
)
def test_what_would_be_ignored_or_wrong_is_refused(stage: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage.model_validate({"name": "s", **settings})


def test_what_is_ignored_may_be_given_as_it_is_anyway() -> None:
    """A deployment's form gives every setting."""
    stage = DpoStage(name="d")
    assert DpoStage.model_validate(stage.model_dump()) == stage
