"""Traps of published implementations, and where each is tested.

pad == eos hides the end token from the loss           test_chat_template, test_alignment (learns to stop)
dropout live beside old log-probabilities              here
log-probabilities at another temperature               test_rollout (those of the training pass)
greedy answers with a KL estimate; top-k, top-p        not offered in rollouts; negative_kl_share is reported
left padding without positions                         test_rollout, test_pretraining (padding on either side)
reward or value read one token late                    test_stages (transformers' own score); here
whitening with padding, or per rank                    test_losses
0 * NaN through masks                                  here
entropy and KL that average padding                    test_losses, test_rollout (zeros outside the mask)
ranking loss over the shorter answer's padding         test_stages (score at the last real token)
pairs equal after cutting                              test_stages, test_failures
an end forced on a cut answer                          test_chat_template, here
merges at the boundary of prompt and answer            test_chat_template
SFT and PPO with different end tokens                  here
an extended tokenizer that is left behind              test_pretraining (new rows)
unequal batches after answers are dropped              test_alignment, test_jobs (two ranks, ZeRO-3)
weight decay on norms and biases                       here
adapters at the full model's rate                      test_lora
a frozen value head under adapters only                here; test_lora (reward head)
generation without its cache under checkpointing       test_alignment
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rlhf_core import losses
from rlhf_core.dataset.batches import pad_right
from rlhf_core.dataset.chat_template import Tokens, load_chat
from rlhf_core.models.networks import load_scalar, without_dropout
from rlhf_core.settings import BestOfNStage, DpoStage, Optimizer, RaftStage
from rlhf_core.stages.raft import BestOfN, Raft
from tests.rlhf_core.toy import Chain, read_metrics

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
DROPPING: list[Any] = [
    transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5, bos_token_id=1,
        eos_token_id=1,
    ),
    transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2, hidden_dropout=0.5, attention_dropout=0.5),
    transformers.FalconConfig(**SMALL, hidden_dropout=0.5, attention_dropout=0.5),
    transformers.OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5, attention_dropout=0.5, layerdrop=0.5),
    transformers.Starcoder2Config(
        **SMALL, intermediate_size=64, num_key_value_heads=2, residual_dropout=0.5, embedding_dropout=0.5,
        attention_dropout=0.5, bos_token_id=1, eos_token_id=1,
    ),
    transformers.MixtralConfig(
        **SMALL, intermediate_size=64, num_key_value_heads=2, num_local_experts=4, router_jitter_noise=0.5, bos_token_id=1,
        eos_token_id=1,
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", DROPPING, ids=lambda config: config.model_type)
def test_no_dropout_by_any_name(config: Any) -> None:
    """Two passes in training mode agree; they did not before."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    ids = torch.arange(2, 42).view(2, 20)
    with torch.no_grad():
        assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
        without_dropout(model)
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_value_is_that_of_the_state_before_its_token(chain: Chain) -> None:
    """The first answer token's value is read at the prompt's last token, the last one's just before it."""
    from rlhf_core.stages.actors import SeparateCritic

    source = str(chain.world / "reward" / "model")
    chat = load_chat(source)
    value: Any = load_scalar(source, chat, "fp32", 0).eval()
    rows = [Tokens([5, 9, 12, 33, 8], [False, False, True, True, True]), Tokens([7, 6], [False, True])]
    batch = pad_right(rows, chat.pad_id)
    with torch.no_grad():
        found = SeparateCritic(None, value, 0.0).values(batch)  # type: ignore[arg-type]
        hidden = [value.model.base_model(input_ids=torch.tensor([row.ids]))[0] for row in rows]
        first, second = (value.model.score(states)[0, :, 0] for states in hidden)
    assert found is not None
    assert torch.allclose(found, torch.stack([first[1], first[2], first[3], second[0]]), atol=1e-5)


def test_not_a_number_outside_the_mask_stays_outside() -> None:
    nan = math.nan
    mask = torch.tensor([[True, True, False], [True, False, False]])
    holes = torch.where(mask, torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]]), nan)
    assert losses.whiten(holes, mask).isfinite().all()
    rewards = losses.shaped_rewards(torch.tensor([1.0, 2.0]), holes, mask, 0.1)
    assert rewards.isfinite().all()
    for values in losses.gae(holes, holes, mask, 1.0, 0.95):
        assert values.isfinite().all()
    scores = torch.tensor([[1.0, 0.5, nan]], requires_grad=True)
    pairs = torch.zeros(1, 3, 3, dtype=torch.bool)
    pairs[0, 0, 1] = True
    loss, right, counted = losses.ranking_loss(scores, pairs)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-0.5)))
    assert (int(right), int(counted)) == (1, 1)


def test_an_answer_that_did_not_end_is_scored_without_an_end(chain: Chain) -> None:
    """Also where the answer is handed over as text, since the vocabularies differ."""
    from rlhf_core.dataset.records import Record, Turn
    from rlhf_core.rewards.sources import load_scorer
    from rlhf_core.settings.alignment import RewardSource

    source = str(chain.world / "reward" / "model")
    chat = load_chat(source)
    scorer: Any = load_scorer(RewardSource(model="x"), source, chat, torch.device("cpu"), "fp32")
    prompt = Record("a", None, (Turn("user", "Name the capital of Ald."),))
    asked, answer = chat.prompts([prompt])[0], chat.answers(["Orsk."])[0]
    assert answer[-1] == chat.end_id
    for finished, ids in ((True, answer), (False, answer[:-1])):
        whole = pad_right([Tokens(asked + ids, [False] * len(asked) + [True] * len(ids))], chat.pad_id)
        assert torch.equal(scorer.score_texts([prompt], ["Orsk."], [finished]), scorer.score(whole))


def test_every_stage_ends_with_the_same_token(chain: Chain) -> None:
    ppo = chain.run("traps_ppo", "ppo", steps=1)
    ends = [load_chat(str(folder / "model")).end_id for folder in (chain.world / "pretrain", chain.world / "sft", ppo)]
    assert len(set(ends)) == 1


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    from rlhf_core.engine import parameter_groups

    module = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    groups = parameter_groups(module, Optimizer(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in module.named_parameters()}
    assert found == {"0.weight": 0.0, "1.weight": 0.1, "1.bias": 0.0, "2.weight": 0.0, "2.bias": 0.0}


def test_a_value_head_on_the_policy_is_trained_under_adapters_only(chain: Chain) -> None:
    from rlhf_core.models.lora import add_lora
    from rlhf_core.models.networks import load_policy
    from rlhf_core.settings import Lora
    from rlhf_core.stages.actors import PolicyWithValue

    source = str(chain.world / "sft" / "model")
    module = PolicyWithValue(load_policy(source, load_chat(source), "fp32").model, 0)
    add_lora(module.model, Lora(rank=2, only=True))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {"value.weight", "value.bias"} < trained
    assert all(".lora_" in name or name.startswith("value.") for name in trained)


# Which answers are learned from

ANSWERS = [(0, [1], 0.1), (0, [2], 0.9), (1, [3], 0.5), (1, [4], 0.95), (2, [5], 0.2), (2, [6], 0.1)]


def test_raft_keeps_the_best_of_each_prompt_or_of_all() -> None:
    stage: Any = object.__new__(Raft)
    stage.settings = RaftStage(name="r", reward_model="m", samples=2)
    assert [ids for _, ids, _ in stage.keep(ANSWERS, 1)] == [[2], [4], [5]]
    stage.settings = RaftStage(name="r", reward_model="m", samples=2, select="top")
    assert [ids for _, ids, _ in stage.keep(ANSWERS, 1)] == [[4], [2], [3]]


def test_best_of_n_pools_the_good_answers_of_all_policies_so_far() -> None:
    stage: Any = object.__new__(BestOfN)
    stage.settings, stage.pool = BestOfNStage(name="b", reward_model="m", samples=2, keep=2), {}
    assert [ids for _, ids, _ in stage.keep(ANSWERS[:2], 1)] == [[2], [1]]
    # a later policy: one answer known already, one better than the worst in the pool
    assert [ids for _, ids, _ in stage.keep([(0, [2], 0.9), (0, [7], 0.5)], 2)] == [[2], [7]]
    # a worse policy changes nothing, and what is learned is an earlier policy's
    assert [ids for _, ids, _ in stage.keep([(0, [8], 0.0), (0, [9], -1.0)], 3)] == [[2], [7]]
    assert [ids for _, ids, _ in stage.keep([(4, [8], 0.0), (4, [9], -1.0)], 4)] == [[8], [9]]


def test_dpo_takes_the_best_of_its_own_answers_over_the_worst(chain: Chain) -> None:
    from rlhf_core.engine import start
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.models.networks import load_policy
    from rlhf_core.settings import Launch
    from rlhf_core.stages.dpo import OwnAnswers
    from tests.rlhf_core.test_alignment import HERE, marks

    source = str(chain.world / "sft" / "model")
    chat = load_chat(source)
    settings = DpoStage(
        name="d", pairs_from="samples", data="splits/ppo", samples=4, max_new_tokens=8, temperature=2.0,
        rewards=[{"function": f"{HERE}:marks"}], reward_normalisation="none", missing_end_penalty=0.0, reward_clip=100.0,
    )  # fmt: skip
    policy = load_policy(source, chat, "fp32").eval()
    own = OwnAnswers(settings, Inputs({}), chat, start(Launch(threads=1)), policy)
    path = Path(chain.world / "splits" / "ppo" / "eval.jsonl")
    pairs, dropped = own.pairs(path, 64)
    assert pairs
    assert len(pairs) + dropped["equal_pairs"] == 12
    for pair in pairs:
        better, worse = (
            marks([], [chat.decode([i for i, counts in zip(t.ids, t.mask, strict=True) if counts])])[0]
            for t in (pair.chosen, pair.rejected)
        )
        assert better > worse


def loud(prompts: list[Any], answers: list[str]) -> list[float]:
    """Far beyond the clip, whoever answers."""
    return [1000.0 + 100 * sum(letter.isupper() for letter in answer) for answer in answers]


def test_own_answers_are_judged_by_how_far_they_lie_from_the_starts_mean(chain: Chain) -> None:
    """By their plain scores all of them would be at the clip, and alike."""
    stage = chain.built(
        "dpo", {"data": str(chain.world / "splits" / "ppo")}, pairs_from="samples", data="splits/ppo", samples=4, max_new_tokens=8,
        temperature=2.0, rewards=[{"function": f"{__name__}:loud"}], missing_end_penalty=0.0,
    )  # fmt: skip
    assert stage.dropped["equal_pairs"] < len(stage.train)
    for pair in stage.train:
        better, worse = (
            loud([], [stage.chat.decode([i for i, counts in zip(t.ids, t.mask, strict=True) if counts])])[0]
            for t in (pair.chosen, pair.rejected)
        )
        assert better > worse


def test_a_reward_model_a_classifier_and_a_function_reward_together(chain: Chain, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from tests.rlhf_core.test_alignment import HERE

    source = tmp_path / "bert"
    tokenizer = AutoTokenizer.from_pretrained(chain.world / "tokenizer")
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(source)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=3, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(source)
    rewards = [{"model": "org/bert", "label": 2, "weight": 0.5}, {"function": f"{HERE}:marks", "weight": 2.0}]
    found = {}
    for combine in ("sum", "minimum"):
        lines = read_metrics(
            chain.run(f"three_{combine}", "rloo", {"reward_1": str(source)}, rewards=rewards, combine=combine, steps=2)
        )
        found[combine] = [line["reward_unclipped"] for line in lines]
        assert {"score_reward_model", "score_reward_1", "score_reward_2"} <= lines[0].keys()
    # of three rewards with mean 0 over the starting policy's answers, the least is below their sum on average
    assert found["minimum"][0] < found["sum"][0]
