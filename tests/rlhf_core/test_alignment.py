"""PPO's options and its siblings on the toy world: what each does, that stopping in between changes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.job.errors import BadInput
from tests.rlhf_core.toy import Chain, killed_and_resumed, read_metrics, weights

KINDS = ["rloo", "grpo", "raft", "best_of_n", "dpo"]


def summary(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def marks(prompts: list[Any], answers: list[str]) -> list[float]:
    """A reward that can be hacked: it pays for every capital letter."""
    return [float(sum(letter.isupper() for letter in answer)) for answer in answers]


def broken(prompts: list[Any], answers: list[str]) -> list[float]:
    return [math.nan] * len(answers)


HERE = "tests.rlhf_core.test_alignment"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_leaves_a_model_and_its_figures(chain: Chain, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    output = chain.run(f"first_{kind}", kind, steps=2)
    lines = read_metrics(output)
    assert len(lines) == 2
    AutoModelForCausalLM.from_pretrained(output / "model")
    if kind != "dpo":
        wanted = "reward kl entropy length finished_share distinct_2 negative_kl_share phrase_share watched_share"
        assert set(wanted.split()) <= set(lines[-1])
        assert {"reward_before", "reward_after", "kl", "finished_share"} <= set(summary(output))
    if kind in ("rloo", "grpo"):
        assert lines[0]["ratio"] == 1.0
        assert lines[0]["approx_kl"] == 0.0
    if kind in ("raft", "best_of_n"):
        assert lines[0]["kept"] == 4  # the best of four answers to each of four prompts
        assert lines[0]["kept_reward"] > lines[0]["reward"]


ALL_OPTIONS: dict[str, Any] = {
    "ppo_epochs": 2, "minibatches": 2, "ema_decay": 0.5, "kl_target": 1.0, "kl_horizon": 100, "entropy_coef": 0.01,
    "kl_stop": 0.05, "ptx_coef": 0.5, "ptx_data": "corpus", "min_new_tokens": 4, "value_backbone": "shared",
    "reward_normalisation": "running", "pattern_penalties": [{"pattern": "[A-Z]", "penalty": 0.1, "most": 3}],
    "rewards": [{"function": f"{HERE}:marks", "weight": 0.5}], "combine": "minimum", "max_length": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["ppo", "best_of_n"] + [pytest.param(kind, marks=pytest.mark.slow) for kind in ("rloo", "grpo", "raft", "dpo")],
)
def test_a_resumed_run_equals_an_unbroken_one(chain: Chain, kind: str) -> None:
    """Killed in step 6 with a checkpoint at 4: the same metrics and the same weights, to the last digit."""
    options: dict[str, Any] = {"steps": 7, "checkpoint_steps": 2, "eval_steps": 4}
    inputs = None
    if kind == "ppo":
        options |= ALL_OPTIONS
        inputs = {"ptx": str(chain.world / "corpus")}
    whole = chain.run(f"{kind}_unbroken", kind, inputs, **options)
    resumed = killed_and_resumed(chain, 6, f"{kind}_killed", kind, inputs, **options)
    assert read_metrics(resumed) == read_metrics(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_a_reward_is_hacked_without_the_pattern_penalty_and_not_with_it(chain: Chain) -> None:
    """The reward pays for capital letters; the penalty takes off more than they bring."""
    options: dict[str, Any] = {
        "steps": 25, "batch_size": 32, "kl_coef": 0.0, "reward_normalisation": "none", "reward_clip": 100.0,
        "missing_end_penalty": 0.0, "optimizer": {"learning_rate": 5e-3, "schedule": "constant"},
        "eval_steps": 25, "watched_patterns": ["[A-Z].*[A-Z].*[A-Z].*[A-Z]"],
        "reward_model": None, "rewards": [{"function": f"{HERE}:marks"}],
    }  # fmt: skip
    hacked = chain.run("hack_open", "rloo", **options)
    first, last = read_metrics(hacked)[0], read_metrics(hacked)[-1]
    assert first["watched_share"] < 0.2
    assert last["watched_share"] > 0.6
    assert last["reward"] > first["reward"] + 2
    assert any("watched pattern spread" in text for text in summary(hacked)["warnings"])
    penalty = {"pattern": "[A-Z]", "penalty": 2.0, "most": 20}
    held = chain.run("hack_closed", "rloo", **options, pattern_penalties=[penalty])
    assert read_metrics(held)[-1]["watched_share"] < 0.2
    said = summary(held).get("warnings", [])
    assert all("distinct-2" in text for text in said)  # that nothing is said any more pays here: no two tokens differ


def test_a_tokenizer_whose_pad_is_its_end_learns_to_stop(chain: Chain, tmp_path: Path) -> None:
    """A policy that was made never to stop is paid for answers that end."""
    import shutil

    from rlhf_core.dataset.chat_template import load_chat

    start = tmp_path / "model"
    shutil.copytree(chain.world / "sft" / "model", start)
    config = json.loads((start / "tokenizer_config.json").read_text())
    config["pad_token"] = config["eos_token"]
    (start / "tokenizer_config.json").write_text(json.dumps(config))
    chat = load_chat(str(start))
    assert chat.pad_id != chat.end_id
    options: dict[str, Any] = {
        "steps": 25, "batch_size": 32, "temperature": 1.5, "kl_coef": 0.0, "reward_normalisation": "none",
        "optimizer": {"learning_rate": 5e-3, "schedule": "constant"}, "max_new_tokens": 6, "missing_end_penalty": 2.0,
        "reward_model": None, "rewards": [{"function": f"{HERE}:nothing"}], "eval_steps": 25,
    }  # fmt: skip
    lines = read_metrics(chain.run("stopping", "rloo", {"init": str(start)}, **options))
    assert lines[0]["finished_share"] < 0.8
    assert lines[-1]["finished_share"] > 0.95


def nothing(prompts: list[Any], answers: list[str]) -> list[float]:
    return [0.0] * len(answers)


def test_ptx_adds_the_pretraining_loss_and_the_corpus_is_forgotten_less(chain: Chain) -> None:
    options: dict[str, Any] = {"steps": 8, "optimizer": {"learning_rate": 5e-3}, "max_length": 32, "kl_coef": 0.0}
    corpus = {"ptx": str(chain.world / "corpus")}
    with_it = read_metrics(chain.run("ptx", "rloo", corpus, ptx_coef=5.0, ptx_data="corpus", **options))
    tiny = read_metrics(chain.run("no_ptx", "rloo", corpus, ptx_coef=1e-9, ptx_data="corpus", **options))
    assert with_it[0]["ptx_loss"] == pytest.approx(tiny[0]["ptx_loss"], rel=1e-5)
    assert with_it[-1]["ptx_loss"] < 0.9 * tiny[-1]["ptx_loss"]


def test_the_saved_policy_is_the_moving_average(chain: Chain) -> None:
    """Decay 0.5 after one step: half way between the start and the policy of the same run without it."""
    options: dict[str, Any] = {"steps": 1, "optimizer": {"learning_rate": 1e-2, "warmup_share": 0.0}}
    plain = weights(chain.run("no_ema", "rloo", **options))
    average = weights(chain.run("ema", "rloo", **options, ema_decay=0.5))
    start = weights(chain.world / "sft")
    for name, value in average.items():
        assert torch.allclose(value, (start[name] + plain[name]) / 2, atol=1e-6), name
    coarse = weights(chain.run("ema_bf16", "rloo", **options, ema_decay=0.5, precision="bf16"))
    assert {value.dtype for value in coarse.values()} == {torch.bfloat16}  # as a bf16 policy is saved without it
    assert set(coarse) == set(average)


def test_epochs_stop_when_the_policy_has_moved_enough(chain: Chain) -> None:
    options: dict[str, Any] = {"steps": 2, "ppo_epochs": 4, "optimizer": {"learning_rate": 2e-2}}
    free = read_metrics(chain.run("free", "ppo", **options, kl_stop=1e9))
    held = read_metrics(chain.run("held", "ppo", **options, kl_stop=1e-3))
    assert free[-1]["updates"] == 4
    assert held[-1]["updates"] < 4


def test_the_kl_coefficient_follows_its_target(chain: Chain) -> None:
    options: dict[str, Any] = {"steps": 3, "kl_target": 1e-6, "kl_horizon": 16}
    lines = read_metrics(chain.run("adaptive", "rloo", **options))
    # far above the target: 20% up after each rollout of 16 answers, but the first, where the KL is still 0
    assert lines[0]["kl_coef"] == pytest.approx(0.1)
    assert lines[2]["kl_coef"] == pytest.approx(lines[1]["kl_coef"] * 1.2)


@pytest.mark.parametrize("backbone", ["separate", "shared"])
def test_one_pass_serves_as_well_as_three(chain: Chain, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update's own pass in place of separate passes for old log-probabilities and values: the same figures."""
    from rlhf_core.stages.policy_gradient import PolicyGradient

    options: dict[str, Any] = {"steps": 2, "ppo_epochs": 2, "value_backbone": backbone}
    live = read_metrics(chain.run(f"live_{backbone}", "ppo", **options))
    monkeypatch.setattr(PolicyGradient, "_live", lambda self, answers: None)
    apart = read_metrics(chain.run(f"apart_{backbone}", "ppo", **options))
    for a, b in zip(live, apart, strict=True):
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("small", [True, False])
def test_gradient_checkpointing_changes_no_answer(
    chain: Chain, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training mode transformers leaves the cache out under checkpointing: answers would be written without context."""
    from rlhf_core.generation import rollout
    from rlhf_core.generation.decoding import CacheDecoder

    if not small:
        monkeypatch.setattr(rollout, "make_decoder", lambda model, new, _: CacheDecoder(model, new))
    found = []
    for on in (False, True):
        launch = {"threads": 1, "gradient_checkpointing": on}
        found.append(read_metrics(chain.run(f"checkpointing_{small}_{on}", "rloo", steps=2, launch=launch)))
    for a, b in zip(*found, strict=True):
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=1e-4, abs=1e-5), name


def test_dpo_starts_at_ln_2_and_learns_the_pairs(chain: Chain) -> None:
    lines = read_metrics(chain.run("dpo20", "dpo"))
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["eval_accuracy"] > 0.8
    assert lines[-1]["eval_reward_margin"] > 0.1
    hinge = read_metrics(chain.run("dpo_hinge", "dpo", loss="hinge", steps=1))
    assert hinge[0]["loss"] == pytest.approx(1.0, abs=1e-5)
    free = read_metrics(chain.run("dpo_free", "dpo", reference_free=True, steps=1))
    assert abs(free[0]["loss"] - math.log(2)) > 1e-3


def test_dpo_from_own_samples_takes_the_best_and_the_worst(chain: Chain) -> None:
    options: dict[str, Any] = {
        "pairs_from": "samples", "data": "splits/ppo", "samples": 4, "max_new_tokens": 8, "steps": 20,
        "rewards": [{"function": f"{HERE}:marks"}], "reward_normalisation": "none", "temperature": 2.0,
    }  # fmt: skip
    inputs = {"data": str(chain.world / "splits" / "ppo")}
    figures = summary(chain.run("dpo_own", "dpo", inputs, **options))
    assert 0 < figures["pairs"] + figures["dropped_equal_pairs"] == 60
    assert figures["train_accuracy"] > 0.8
    assert figures["reward_margin"] > 0


def test_several_rewards_are_normalised_apart_and_combined(chain: Chain) -> None:
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.engine import start
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.rewards.scoring import Scoring
    from rlhf_core.settings import Launch
    from rlhf_core.settings.alignment import RewardOptions

    chat = load_chat(str(chain.world / "sft" / "model"))
    inputs = Inputs({"reward_model": str(chain.world / "reward")})
    raw = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]])
    for combine, expected in (("sum", [1.0 + 2.0, 5.0 + 2.0]), ("minimum", [1.0, 2.0])):
        settings = RewardOptions(
            reward_model="reward", rewards=[{"function": f"{HERE}:marks", "weight": 2.0}], combine=combine
        )
        scoring = Scoring(settings, inputs, chat, start(Launch(threads=1)), "fp32")
        scoring.begin(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))  # means 1 and 1, deviations 1 and 1
        found = scoring.combined(torch.tensor([[2.0, 2.0], [6.0, 2.0]]))
        assert found.tolist() == pytest.approx(expected)
        first = scoring.combined(raw)
        scoring.observe(raw)
        assert torch.equal(scoring.combined(raw), first)  # only running normalisation moves
    final = scoring.final(torch.tensor([[100.0, 100.0]]), torch.tensor([False]), ["#"])
    assert final.tolist() == [4.0]  # clipped at 5, then 1 for the missing end


def test_of_several_rewards_each_is_reported_too(chain: Chain) -> None:
    """The combined one hides which of them pays; of one alone there is nothing more to say."""
    rewards = [{"function": f"{HERE}:marks"}, {"function": f"{HERE}:nothing"}]
    stage = chain.built("rloo", reward_model=None, rewards=rewards)
    answers = stage.roll(1)
    figures, held_out = stage.figures(answers), stage.evaluate()
    capitals = marks([], answers.texts)
    assert figures["score_reward_1"] == pytest.approx(sum(capitals) / len(capitals)) and figures["score_reward_2"] == 0.0
    assert held_out["eval_score_reward_1"] == pytest.approx(held_out["eval_score"]) and held_out["eval_score_reward_2"] == 0.0
    alone = chain.built("rloo", reward_model=None, rewards=rewards[:1])
    assert not any("score_reward" in name for name in alone.figures(alone.roll(1)))


def test_the_spread_of_the_scores_and_the_share_of_each_pattern_are_those_of_the_answers(chain: Chain) -> None:
    stage = chain.built("rloo", watched_patterns=["[A-M]", "o"], reward_normalisation="none")
    answers = stage.roll(1)
    figures = stage.figures(answers)
    assert figures["reward_std"] == pytest.approx(float(answers.scores.std(unbiased=False)), rel=1e-5) and figures["reward_std"] > 0
    shares = [sum(any(letter in text for letter in letters) for text in answers.texts) / 16 for letters in ("ABCDEFGHIJKLM", "o")]
    assert [figures["watched_share_1"], figures["watched_share_2"]] == shares and figures["watched_share"] == max(shares)
    assert shares[0] != shares[1]


def test_rewards_that_cannot_be_used_are_named(chain: Chain) -> None:
    for function, message in (
        ("tests.nowhere:marks", "nowhere"),
        (f"{HERE}:absent", "absent"),
        (f"{HERE}:broken", "finite numbers"),
        (f"{HERE}:KINDS", "no function"),
    ):
        with pytest.raises(BadInput, match=message):
            chain.run("bad_reward", "rloo", rewards=[{"function": function}], steps=1)
    with pytest.raises(BadInput, match="multiple of 8"):
        chain.run("bad_batch", "grpo", batch_size=12, samples=8)


def test_reward_model_margins_pooling_and_normalisation(chain: Chain) -> None:
    """The best answers of the training rankings average 0 for whoever reads the scores; the mean pools the answer."""
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.records import read_records
    from rlhf_core.rewards.sources import load_scorer
    from rlhf_core.settings.alignment import RewardSource

    output = chain.run("reward_mean", "reward", steps=12, pooling="mean", margin=0.5)
    assert read_metrics(output)[0]["loss"] > math.log(2)  # margins ask for more than equal scores
    source = str(output / "model")
    chat = load_chat(source)
    scorer: Any = load_scorer(RewardSource(model="x"), source, chat, torch.device("cpu"), "fp32")
    assert scorer.pooling == "mean"
    records = read_records(chain.world / "splits" / "reward" / "train.jsonl")
    prompts, best = [record.prompt() for record in records], [record.responses[0] for record in records]
    scores = scorer.score_texts(prompts, best, [True] * len(best))
    assert abs(float(scores.mean())) < 1e-4
    assert float(scores.std()) > 0


def test_a_reward_model_that_begins_with_another_has_no_shift_of_it(chain: Chain) -> None:
    def shift(name: str) -> float:
        return float(json.loads((chain.world / name / "model" / "config.json").read_text())["score_shift"])

    assert abs(shift("reward")) > 1e-3
    chain.run("reward_again", "reward", {"init": str(chain.world / "reward" / "model")}, steps=1, normalise=False)
    assert shift("reward_again") == 0.0


def test_any_classifier_of_hugging_face_scores(chain: Chain, tmp_path: Path) -> None:
    """A BERT with three labels: the log-odds of the one that is asked for; without a label it is refused."""
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.records import Record, Turn
    from rlhf_core.rewards.sources import TextClassifier, load_scorer
    from rlhf_core.settings.alignment import RewardSource

    source = tmp_path / "bert"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(chain.world / "tokenizer" / "tokenizer.json"), pad_token="<|pad|>", model_max_length=64
    )
    tokenizer.save_pretrained(source)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=3,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(source)
    chat, cpu = load_chat(str(chain.world / "sft" / "model")), torch.device("cpu")
    with pytest.raises(BadInput, match="label"):
        load_scorer(RewardSource(model="x"), str(source), chat, cpu, "fp32")
    scorer = load_scorer(RewardSource(model="x", label=1), str(source), chat, cpu, "fp32")
    assert isinstance(scorer, TextClassifier)
    prompt = Record("a", None, (Turn("user", "Name the capital of Ald."),))
    alone = scorer.score_texts([prompt], ["Orsk."], [True])
    both = scorer.score_texts([prompt, prompt], ["Orsk.", "Tarn is a city in Bex, and so on."], [True, True])
    assert torch.allclose(alone, both[:1], atol=1e-6)  # padding changes nothing
    model = BertForSequenceClassification.from_pretrained(source).eval()
    with torch.no_grad():
        p = model(**tokenizer(["Name the capital of Ald."], ["Orsk."], return_tensors="pt")).logits.softmax(1)[0]
    assert float(alone) == pytest.approx(float((p[1] / (1 - p[1])).log()), abs=1e-5)


def test_a_decoder_that_classifies_without_a_pad_token_scores(chain: Chain, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

    from rlhf_core.dataset.records import Record, Turn
    from rlhf_core.rewards.sources import TextClassifier

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(chain.world / "tokenizer" / "tokenizer.json"), model_max_length=64)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=None, eos_token_id=None)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    prompt, answers = Record("a", None, (Turn("user", "Name the capital of Ald."),)), ["Orsk.", "Tarn is a city in Bex, and so on."]
    scorer = TextClassifier(str(tmp_path), torch.device("cpu"), 1)
    assert scorer.fits([prompt] * 3, [*answers, "Orsk. " * 60]) == [True, True, False]  # the last was cut and scored as if whole
    found = scorer.score_texts([prompt, prompt], answers, [True, True])
    model = GPT2ForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits = torch.cat([model(**tokenizer([prompt.turns[0].text], [text], return_tensors="pt")).logits for text in answers])
    assert torch.allclose(found, logits[:, 1] - logits[:, 0], atol=1e-5)


def test_answers_that_a_classifier_cuts_are_counted_and_dpo_leaves_them_out(chain: Chain, tmp_path: Path) -> None:
    """They were scored by what fits, and nobody was told."""
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = str(chain.world / "tokenizer" / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=vocabulary, pad_token="<|pad|>", model_max_length=18)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    options: dict[str, Any] = {"reward_model": None, "rewards": [{"model": "bert"}, {"function": f"{HERE}:marks"}], "temperature": 2.0}
    inputs = {"reward_1": str(tmp_path)}

    def long(records: list[Any], texts: list[str]) -> list[bool]:
        pairs = zip(records, texts, strict=True)
        return [len(tokenizer(record.turns[0].text, text)["input_ids"]) > 18 for record, text in pairs]

    stage = chain.built("rloo", inputs, **options)
    answers = stage.roll(1)
    share = sum(long(answers.records, answers.texts)) / len(answers.texts)
    assert 0 < share < 1 and stage.figures(answers)["reward_cut_share"] == pytest.approx(share)
    output = chain.run("cut", "rloo", inputs, steps=2, **options)
    assert summary(output)["reward_cut_share_before"] >= 0 and "scored what fits" in summary(output)["warnings"][0]
    prompts = str(chain.world / "splits" / "ppo")
    more = {"pairs_from": "samples", "samples": 4, "max_new_tokens": 12, "data": prompts}
    stage = chain.built("dpo", inputs | {"data": prompts}, **options, **more)
    assert stage.train and stage.dropped["too_long_answers"] > 0
    asked = stage.chat.tokenizer
    for pair in stage.train:
        for tokens in (pair.chosen, pair.rejected):
            answer = [i for i, counts in zip(tokens.ids, tokens.mask, strict=True) if counts]
            prompt = asked.decode([i for i, counts in zip(tokens.ids, tokens.mask, strict=True) if not counts], skip_special_tokens=True)
            assert len(tokenizer(prompt.strip(), stage.chat.decode(answer))["input_ids"]) <= 18


def test_a_classifier_without_a_limit_scores_and_one_that_is_a_pickle_is_refused(chain: Chain, tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForSequenceClassification

    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.dataset.records import Record, Turn
    from rlhf_core.rewards.sources import load_scorer
    from rlhf_core.settings.alignment import RewardSource

    chat = load_chat(str(chain.world / "tokenizer"))
    chat.tokenizer.save_pretrained(tmp_path)
    config = BloomConfig(vocab_size=chat.vocab_size, hidden_size=16, n_layer=1, n_head=2, num_labels=3, pad_token_id=chat.pad_id)
    assert not hasattr(config, "max_position_embeddings")
    model = BloomForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    source, prompt = RewardSource(model="x", label=1), Record("a", None, (Turn("user", "Name the capital of Ald."),))
    scorer = load_scorer(source, str(tmp_path), chat, torch.device("cpu"), "fp32")
    assert scorer.score_texts([prompt], ["Orsk."], [True]).isfinite().all()
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no classifier can be read from"):
        load_scorer(source, str(tmp_path), chat, torch.device("cpu"), "fp32")


def test_tensorboard_curves(chain: Chain) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    output = chain.run("board", "sft", steps=3, tensorboard=True)
    read = event_accumulator.EventAccumulator(str(output / "tensorboard"))
    read.Reload()
    losses = [event.value for event in read.Scalars("loss")]
    assert losses == pytest.approx([line["loss"] for line in read_metrics(output)], rel=1e-5)


def test_tensorboard_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from rlhf_core.job.recorder import Recorder

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadInput, match=r"crawl2chat\[tensorboard\]"):
        Recorder(tmp_path, True, tensorboard=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", *KINDS])
def test_two_ranks_equal_one(chain: Chain, kind: str) -> None:
    from tests.rlhf_core.test_jobs import agree, run_ranks

    options: dict[str, Any] = {"steps": 4, "eval_steps": 2, "launch": {"threads": 1}}
    inputs = None
    if kind == "ppo":
        # a shared backbone has one optimizer; running sums, EMA and ptx must not know the ranks either
        options |= {name: value for name, value in ALL_OPTIONS.items() if name != "kl_stop"}
        inputs = {"ptx": str(chain.world / "corpus")}
    one = read_metrics(chain.run(f"{kind}_alone", kind, inputs, **options))
    agree(one, read_metrics(run_ranks(chain, 2, f"{kind}_pair", kind, inputs, **options)))
