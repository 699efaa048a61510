"""Continued pretraining, extended vocabularies, mixtures to the token, ALiBi models, length groups, schedules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from rlhf_core.dataset.batches import Order
from rlhf_core.dataset.blocks import Blocks
from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.corpus import read_documents
from rlhf_core.dataset.mixture import mix, read_plan
from rlhf_core.dataset.token_store import Documents
from rlhf_core.dataset.vocabulary import train_tokenizer
from rlhf_core.engine import Ranks
from rlhf_core.job.errors import BadInput
from rlhf_core.models.networks import fresh_policy
from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import FreshModel, Optimizer, PretrainStage, TokenizerSettings
from tests.rlhf_core.toy import Chain, killed_and_resumed, read_metrics, weights

END = 1
ALONE = Ranks(0, 1, torch.device("cpu"))


def documents(*tokens: list[int]) -> Documents:
    """Documents of these tokens, each in a shard of its own."""
    count = len(tokens)
    return Documents(
        shards=[np.asarray(ids, dtype=np.int32) for ids in tokens],
        langs=["en"],
        shard=np.arange(count, dtype=np.int32),
        start=np.zeros(count, np.int64),
        length=np.array([len(ids) for ids in tokens]),
        size=np.array([len(ids) for ids in tokens]),
        lang=np.zeros(count, np.int32),
        key=np.arange(count, dtype=np.uint64),
    )


def all_rows(blocks: Blocks) -> Any:
    return blocks[list(range(len(blocks)))].numpy()


# Vocabulary


@pytest.fixture(scope="module")
def extended(chain: Chain) -> Path:
    out, domain = chain.world / "extended", chain.world / "part-00000.parquet"
    texts = ["The cardiologist reads the electrocardiogram. 心电图正常。"] * 9
    pq.write_table(pa.table({"lang": ["en"] * 9, "text": texts}), domain)
    train_tokenizer([domain], TokenizerSettings(vocab_size=440, extend=str(chain.world / "pretrain")), out)
    return out


def test_new_rows_begin_as_the_mean_of_their_old_pieces_and_are_trained_alone(
    chain: Chain, extended: Path
) -> None:
    options: dict[str, Any] = {
        "init": "pretrain",
        "extended_vocabulary": True,
        "trained": "new_rows",
        "steps": 3,
    }
    inputs = {"init": str(chain.world / "pretrain"), "tokenizer": str(extended)}
    output = chain.run("new_rows", "pretrain", inputs, optimizer={"learning_rate": 1e-9}, **options)
    old, new = weights(chain.world / "pretrain"), weights(output)
    name = "model.embed_tokens.weight"
    first, rows = len(old[name]), len(new[name])
    base = AutoTokenizer.from_pretrained(chain.world / "pretrain" / "model")
    longer = AutoTokenizer.from_pretrained(output / "model")
    assert rows == len(longer) > first == len(base)
    for token in range(first, rows):
        pieces = [
            piece.id for piece in base.backend_tokenizer.model.tokenize(longer.convert_ids_to_tokens(token))
        ]
        assert len(pieces) > 1
        assert torch.allclose(new[name][token], old[name][pieces].mean(0), atol=1e-6)
    output = chain.run(
        "new_rows_fast", "pretrain", inputs, optimizer={"learning_rate": 1e-2, "weight_decay": 0.1}, **options
    )
    new = weights(output)
    assert all(torch.equal(value, new[key][: len(value)]) for key, value in old.items())
    assert not torch.allclose(new[name][first:], weights(chain.world / "new_rows")[name][first:], atol=1e-4)
    assert read_metrics(output)[-1]["loss"] < read_metrics(output)[0]["loss"]


def test_new_rows_need_new_tokens(chain: Chain) -> None:
    inputs = {"init": str(chain.world / "pretrain"), "tokenizer": str(chain.world / "pretrain")}
    with pytest.raises(BadInput, match="extend it first"):
        chain.run(
            "no_rows", "pretrain", inputs, init="x", extended_vocabulary=True, trained="new_rows", steps=1
        )
    with pytest.raises(ValueError, match="needs extended_vocabulary"):
        PretrainStage(name="p", init="x", trained="new_rows")


def test_an_extended_vocabulary_travels_through_every_stage(chain: Chain, extended: Path) -> None:
    inputs = {"init": str(chain.world / "pretrain"), "tokenizer": str(extended)}
    base = chain.run("longer", "pretrain", inputs, init="pretrain", extended_vocabulary=True, steps=1, eval_steps=1)
    sft = chain.run("longer_sft", "sft", {"init": str(base)}, steps=1, eval_steps=1)
    judge = chain.run("longer_reward", "reward", {"init": str(sft)}, steps=1, eval_steps=1)
    ppo = chain.run("longer_ppo", "ppo", {"init": str(sft), "reward_model": str(judge)}, steps=1, eval_steps=1)
    dpo = chain.run("longer_dpo", "dpo", {"init": str(sft)}, steps=1, eval_steps=1)
    vocabulary = AutoTokenizer.from_pretrained(extended).get_vocab()
    assert len(vocabulary) > len(AutoTokenizer.from_pretrained(chain.world / "pretrain" / "model"))
    for folder in (base, sft, judge, ppo, dpo):
        assert AutoTokenizer.from_pretrained(folder / "model").get_vocab() == vocabulary
        assert len(weights(folder)["model.embed_tokens.weight"]) == len(vocabulary)


# Data


def test_a_mixture_reads_to_the_token_and_holds_its_shares(tmp_path: Path) -> None:
    plan = {"seed": 7, "phases": [
        {"name": "stable", "tokens": 300, "sources": {"web": 1.0}},
        {"name": "anneal", "tokens": 101, "sources": {"web": 0.5, "chat": 0.5}},
    ]}  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    sources = {"web": documents(*[[10] * 6] * 20), "chat": documents(*[[20] * 3] * 5)}
    mixture = mix(read_plan(tmp_path / "plan.json"), sources, END, 11, tmp_path, ALONE)
    assert mixture.read(20) == {"stable": {"web": 200}, "anneal": {}}
    read = mixture.read(40)
    assert read["stable"] == {"web": 300} and sum(read["anneal"].values()) == 100  # the 101st fills no row
    assert mixture.read(90) == {"stable": {"web": 700}, "anneal": {name: 2 * count for name, count in read["anneal"].items()}}
    stream = [END, *all_rows(mixture.blocks)[:, 1:].reshape(-1).tolist()]
    assert len(stream) == 401  # the first end token is not predicted; 401 = 40 rows of 10 and a tail of 1
    assert 20 not in stream[:301]
    late = stream[301:]
    # web: an end that stable left, and 7 of 6 tokens and an end; chat: 12 of 3 and an end, and 2
    assert (read["anneal"], late.count(10), late.count(20)) == ({"web": 50, "chat": 50}, 42, 38)
    first, second = late[:50].count(20), late[50:].count(20)
    assert abs(first - second) <= 6
    web = [index for index, token in enumerate(stream[1:301]) if token == END]
    assert web == list(range(6, 300, 7))


def test_every_epoch_of_a_source_has_each_document_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    web = documents(*[[10 + i] for i in range(12)])
    plan = {"seed": 1, "phases": [{"name": "all", "tokens": 48, "read": {"web": 48}}]}
    stream = all_rows(mix(plan, {"web": web}, END, 49, tmp_path, ALONE).blocks)[0].tolist()
    tokens = [token for token in stream if token != END]
    assert sorted(tokens[:12]) == sorted(tokens[12:]) == list(range(10, 22))
    assert tokens[:12] != tokens[12:]


@pytest.mark.parametrize(
    "plan",
    [
        "[",
        "{}",
        '{"seed": 1, "phases": [{"name": "a", "tokens": 0, "sources": {"x": 1}}]}',
        '{"phases": [], "seed": "s"}',
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, plan: str) -> None:
    (tmp_path / "plan.json").write_text(plan)
    with pytest.raises(BadInput, match="no mixture plan"):
        read_plan(tmp_path / "plan.json")


def test_pretraining_follows_a_mixture_of_corpus_and_conversations(chain: Chain, tmp_path: Path) -> None:
    plan = {"seed": 3, "phases": [
        {"name": "stable", "tokens": 1000, "sources": {"web": 1.0}},
        {"name": "anneal", "tokens": 500, "sources": {"web": 0.6, "chat": 0.4}},
    ]}  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    world = chain.world
    inputs = {
        "data": str(tmp_path), "source:web": str(world / "corpus"), "source:chat": str(world / "splits" / "sft"),
        "init": str(world / "pretrain"), "tokenizer": str(world / "pretrain"),
    }  # fmt: skip
    output = chain.run("mixed", "pretrain", inputs, init="pretrain", steps=None, epochs=1.0)
    found = json.loads((output / "summary.json").read_text())
    # 1500 tokens are 23 rows of 63, in 3 steps of 8, the last of 7, and 51 tokens that fill no row
    assert found["mixture"]["stable"] == {"web": 1000}
    assert sum(found["mixture"]["anneal"].values()) == 449 and found["tokens_seen"] == 1449
    assert abs(found["mixture"]["anneal"]["chat"] - 0.4 * 449) <= 30
    part = chain.run("mixed_part", "pretrain", inputs, init="pretrain", steps=1)
    assert json.loads((part / "summary.json").read_text())["mixture"] == {"stable": {"web": 8 * 63}, "anneal": {}}
    with pytest.raises(BadInput, match="chat"):
        chain.run(
            "mixed_bad",
            "pretrain",
            {**inputs, "source:chat": str(tmp_path / "absent")},
            init="pretrain",
            steps=1,
        )


def test_a_mixture_that_was_killed_goes_on_where_it_was(chain: Chain, tmp_path: Path) -> None:
    """Killed in the anneal phase, with a checkpoint in the stable one."""
    plan = {"seed": 3, "phases": [
        {"name": "stable", "tokens": 3000, "sources": {"web": 1.0}},
        {"name": "anneal", "tokens": 2000, "sources": {"web": 0.5, "chat": 0.5}},
    ]}  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    world = chain.world
    inputs = {"data": str(tmp_path), "source:web": str(world / "corpus"), "source:chat": str(world / "splits" / "sft")}
    options: dict[str, Any] = {"steps": None, "epochs": 1.0, "checkpoint_steps": 4, "eval_steps": 5}
    whole = chain.run("mixed_whole", "pretrain", inputs, **options)
    assert len(read_metrics(whole)) >= 9  # 8 rows of 63 tokens a step: step 7 is in the anneal phase
    resumed = killed_and_resumed(chain, 7, "mixed_broken", "pretrain", inputs, **options)
    assert read_metrics(resumed) == read_metrics(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_conversations_as_text_have_their_role_marks(chain: Chain) -> None:
    chat = load_chat(str(chain.world / "pretrain" / "model"))
    first = next(read_documents(chain.world / "splits" / "sft" / "train.jsonl", chat))
    assert chat.tokenizer.decode(first.ids).startswith(
        "<|user|> What is the capital of Ald?<|end|><|assistant|>"
    )
    assert first.ids[-1] != chat.end_id


def test_length_groups_pad_less_and_visit_everything_once() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, size=1003).tolist()
    plain, grouped = Order(1003, 16, 1), Order(1003, 16, 1, lengths)

    def padding(order: Order) -> int:
        batches = [order.batch(step) for step in range(1, 63)]
        return sum(
            max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches
        )

    assert padding(grouped) < 0.2 * padding(plain)
    assert sorted(i for step in range(1, 63) for i in grouped.batch(step))[:5] == [0, 1, 2, 3, 4]
    stream = [i for step in range(1, 127) for i in grouped.batch(step)]
    assert sorted(stream[:1003]) == sorted(stream[1003:2006]) == list(range(1003))
    assert stream[:1003] != stream[1003:2006]


# Models and schedules


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@torch.no_grad()
def test_fresh_models_ignore_padding_on_either_side_and_share_key_heads(chain: Chain, positions: Any) -> None:
    chat = load_chat(str(chain.world / "pretrain" / "model"))
    model = fresh_policy(
        FreshModel(hidden_size=32, layers=2, heads=4, kv_heads=2, positions=positions), chat, 1
    ).model.eval()
    assert sum("k_proj" in name or "query_key_value" in name for name, _ in model.named_parameters()) >= 2
    ids = torch.tensor([[5, 9, 12, 33]])
    plain = model(ids).logits[0]
    padded = torch.tensor([[0, 0, 5, 9, 12, 33]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]])
    left = model(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits[0, 2:]
    right = model(torch.tensor([[5, 9, 12, 33, 0, 0]])).logits[0, :4]
    assert torch.allclose(plain, left, atol=1e-5) and torch.allclose(plain, right, atol=1e-5)


def test_pretraining_an_alibi_model(chain: Chain) -> None:
    model = {
        "hidden_size": 32,
        "layers": 2,
        "heads": 4,
        "kv_heads": 1,
        "context_length": 128,
        "positions": "alibi",
    }
    lines = read_metrics(chain.run("alibi", "pretrain", model=model, steps=12))
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


def shares(steps: int, **settings: Any) -> list[float]:
    optimizer = Optimizer(**({"warmup_share": 0.1, "min_learning_rate_share": 0.0} | settings))
    return [learning_rate_share(step, steps, optimizer) for step in range(1, steps + 1)]


def test_warm_up_stable_decay() -> None:
    found = shares(100, schedule="wsd", decay_share=0.2)
    assert found[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert found[10:80] == [1.0] * 70
    assert found[80:] == pytest.approx([1 - step / 20 for step in range(1, 21)])


def test_warm_cosine_stable_decay() -> None:
    found = shares(100, schedule="wcsd", cosine_share=0.3, stable_share=0.5, decay_share=0.2)
    assert found[9] == 1.0
    assert found[24] == pytest.approx(0.75)  # half of the cosine: half way from 1 to 0.5
    assert found[39:80] == pytest.approx([0.5] * 41)
    assert found[89] == pytest.approx(0.25) and found[99] == pytest.approx(0.0)


def test_rewarming_starts_anew_from_the_minimum() -> None:
    found = shares(200, schedule="cosine", rewarm_at=[0.5], min_learning_rate_share=0.1)
    assert found[99] == pytest.approx(0.1)
    assert found[100:110] == pytest.approx([0.1 + 0.9 * step / 10 for step in range(1, 11)])
    assert found[110:] == pytest.approx(found[10:100])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rewarm_at": [0.5, 0.2]},
        {"schedule": "wcsd", "cosine_share": 0.6, "decay_share": 0.5},
        {"kind": "lamb", "lora": {}},
    ],
)
def test_schedules_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rewarm_at|more than all|lamb"):
        Optimizer(**wrong)
