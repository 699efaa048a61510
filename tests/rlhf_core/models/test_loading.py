"""Models come in the recipe's precision, and under ZeRO-3 in pieces: the same weights, never whole on every rank."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.vocabulary import SPECIAL_TOKENS
from rlhf_core.engine import parameter_groups, shape_of, split_on_loading, start, whole
from rlhf_core.job.errors import BadInput
from rlhf_core.models.networks import fresh_policy, load_policy, load_scalar, train_new_rows
from rlhf_core.settings import FreshModel, Launch, Optimizer
from tests.rlhf_core.toy import Chain

ROOT = Path(__file__).parents[3]
SPLIT = Launch(zero_stage=3, threads=1)


def loaded(kind: str, folder: str, precision: str) -> Any:
    chat = load_chat(folder)
    return load_policy(folder, chat, precision) if kind == "policy" else load_scalar(folder, chat, precision, 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["policy", "scalar"])
def test_a_split_model_is_the_whole_one_in_pieces(chain: Chain, kind: str, precision: str) -> None:
    start(SPLIT)
    folder = str(chain.world / "sft" / "model")
    plain = loaded(kind, folder, precision)
    with split_on_loading(SPLIT, precision):
        split = loaded(kind, folder, precision)
    assert [shape_of(p) for p in split.parameters()] == [p.shape for p in plain.parameters()]
    assert all(p.numel() == 0 for p in split.parameters())  # what a rank keeps lies apart, in ds_tensor
    own, others = (parameter_groups(model, Optimizer(weight_decay=0.1)) for model in (split, plain))
    assert [(len(group["params"]), group["weight_decay"]) for group in own] == [
        (len(group["params"]), group["weight_decay"]) for group in others
    ]
    with whole(list(split.parameters())):
        assert all(torch.equal(a, b) for a, b in zip(split.state_dict().values(), plain.state_dict().values(), strict=True))
    # what is loaded afterwards is whole again
    assert all(p.numel() for p in loaded(kind, folder, precision).parameters())


def test_old_rows_stay_where_new_ones_are_trained_alone_and_matrices_decay(world: Path) -> None:
    """A head that is no embedding lost a hundredth of its old rows in ten steps at 1e-2 and 0.1."""
    chat = load_chat(str(world / "tokenizer"))
    model: Any = fresh_policy(FreshModel(hidden_size=32, layers=1, heads=2, tie_embeddings=False), chat, 1).model
    model.first_new_row = chat.vocab_size - 5
    train_new_rows(model)
    groups = parameter_groups(model, Optimizer(weight_decay=0.1))
    for group in groups:
        del group["rate"]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.arange(chat.vocab_size - 20, chat.vocab_size)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        rows = model.first_new_row if name in ("lm_head.weight", "model.embed_tokens.weight") else len(value)
        assert torch.equal(value[:rows], before[name][:rows]), name
        assert rows == len(value) or not torch.equal(value[rows:], before[name][rows:]), name


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
OTHERS: list[Any] = [
    lambda **names: transformers.Gemma2Config(**SMALL, head_dim=8, sliding_window=6, **names),
    lambda **names: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **names),
    lambda **names: transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=6, **names
    ),
]


@pytest.mark.parametrize("config", OTHERS, ids=["gemma2", "bloom", "gpt_neo"])
def test_an_architecture_without_sdpa_is_loaded_by_the_default_settings(config: Any, world: Path, tmp_path: Path) -> None:
    """As policy and as reward model: padded rows say what transformers says of each row alone."""
    chat = load_chat(str(world / "tokenizer"))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(vocab_size=chat.vocab_size, bos_token_id=None, eos_token_id=chat.end_id))
    model.save_pretrained(tmp_path)
    chat.tokenizer.save_pretrained(tmp_path)
    policy, scalar = (loaded(kind, str(tmp_path), "fp32").eval() for kind in ("policy", "scalar"))
    rows = [[9, 20, 31, 42, 53, 64, 75, 86, 97, 19], [30, 41, 52]]
    ids = torch.tensor([rows[0], rows[1] + [chat.pad_id] * 7])
    select = torch.tensor([[True] * 10, [True] * 3 + [False] * 7])
    with torch.no_grad():
        alone = [torch.tensor([row]) for row in rows]
        logits = torch.cat([policy.model(input_ids=row, use_cache=False).logits[0] for row in alone])
        assert torch.allclose(policy(ids, select), logits, atol=1e-5)
        scores = [scalar.model(input_ids=row).logits[0, 0] for row in alone]
        last = torch.tensor([[False] * 9 + [True], [False] * 2 + [True] + [False] * 7])
        assert torch.allclose(scalar(ids, last), torch.stack(scores), atol=1e-5)


def test_a_bert_is_read_by_its_whole_head_and_refused_where_it_sees_what_follows(world: Path, tmp_path: Path) -> None:
    """Its log-probabilities left out a layer of its head."""
    chat = load_chat(str(world / "tokenizer"))
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    for decodes in (True, False):
        config = transformers.BertConfig(vocab_size=chat.vocab_size, is_decoder=decodes, **small)
        transformers.BertLMHeadModel(config).save_pretrained(tmp_path / str(decodes))
        chat.tokenizer.save_pretrained(tmp_path / str(decodes))
    policy, ids = loaded("policy", str(tmp_path / "True"), "fp32").eval(), torch.tensor([[9, 20, 31, 42]])
    with torch.no_grad():
        assert torch.allclose(policy(ids, torch.ones(1, 4, dtype=torch.bool)), policy.model(input_ids=ids).logits[0], atol=1e-5)
    with pytest.raises(BadInput, match="BertLMHeadModel a token sees those behind it"):
        loaded("policy", str(tmp_path / "False"), "fp32")


def test_a_split_model_gets_rows_for_the_tokens_that_its_own_tokenizer_lacks(chain: Chain, tmp_path: Path) -> None:
    """A base model without role marks: the rows are the same means, whether the embeddings are split or not."""
    start(SPLIT)
    bare = tmp_path / "bare"
    load_policy(str(chain.world / "sft" / "model"), load_chat(str(chain.world / "sft" / "model")), "fp32").model.save_pretrained(bare)
    tokenizer = load_chat(str(chain.world / "sft" / "model")).tokenizer
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    longer = load_chat(str(bare))
    longer.tokenizer.add_tokens(["<|new|>", "capital of"])
    plain = load_policy(str(bare), longer, "fp32").model
    with split_on_loading(SPLIT, "fp32"):
        split = load_policy(str(bare), longer, "fp32").model
    embeddings = split.get_input_embeddings()
    assert split.first_new_row == plain.first_new_row == embeddings.num_embeddings - 2 > len(SPECIAL_TOKENS)
    with whole([embeddings.weight]):
        assert torch.equal(embeddings.weight, plain.get_input_embeddings().weight)


def test_frozen_models_of_a_bf16_recipe_are_read_in_bf16(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their float32 copies would be twice the memory, and the optimizer's own are made of the bf16 weights anyway."""
    from rlhf_core.models import networks

    asked: list[str] = []
    plain = networks._load

    def load(factory: Any, source: str, precision: str, *more: Any, **options: Any) -> Any:
        asked.append(precision)
        return plain(factory, source, precision, *more, **options)

    monkeypatch.setattr(networks, "_load", load)
    chain.run("ppo_bf16_loading", "ppo", steps=1, eval_steps=1, precision="bf16")
    assert asked == ["bf16"] * 3  # policy (its reference is a copy), reward model, value model


TWO = """
import json, sys
import torch
from rlhf_core.engine import split_frozen, split_on_loading, start, stop, whole
from rlhf_core.settings import Launch
from tests.rlhf_core.models.test_loading import SPLIT, loaded
ranks = start(SPLIT)
found = {}
for kind in ("policy", "scalar"):
    plain = loaded(kind, sys.argv[1], "fp32")
    with split_on_loading(SPLIT, "fp32"):
        split = loaded(kind, sys.argv[1], "fp32")
    kept = sum(p.ds_tensor.numel() for p in split.parameters()) / sum(p.numel() for p in plain.parameters())
    with whole(list(split.parameters())):
        same = all(torch.equal(a, b) for a, b in zip(split.state_dict().values(), plain.state_dict().values()))
    found[kind] = [kept, same]
    if kind == "policy":
        frozen = split_frozen(lambda: loaded("policy", sys.argv[1], "fp32"), SPLIT, "fp32", ranks.device)
        ids, select = torch.arange(12).view(2, 6) + ranks.rank, torch.ones(2, 6, dtype=torch.bool)
        with torch.no_grad():
            said, wanted = (model(ids, select, ids.flatten(), 1.0)[0] for model in (frozen, plain.eval()))
        kept = sum(p.ds_tensor.numel() for p in frozen.module.parameters()) / sum(p.numel() for p in plain.parameters())
        whole_again = any(p.numel() for p in frozen.module.parameters())
        found["frozen"] = [kept, torch.allclose(said, wanted, atol=1e-5) and not whole_again]
from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.records import Record, Turn
from rlhf_core.rewards.sources import load_scorer
from rlhf_core.settings.alignment import RewardSource
chat = load_chat(sys.argv[2])
prompts = [Record("a", None, (Turn("user", "Name the capital of Ald."),))] * 70  # more than one pass
texts = [f"Orsk. {n + ranks.rank}" for n in range(70)]
judges = [load_scorer(RewardSource(model="x"), sys.argv[2], chat, ranks.device, "fp32", launch) for launch in (SPLIT, Launch())]
said, wanted = (judge.score_texts(prompts, texts, [True] * 70) for judge in judges)
parts = [[getattr(p, "ds_tensor", p).numel() for p in judge.model.parameters()] for judge in judges]
found["judge"] = [sum(parts[0]) / sum(parts[1]), torch.allclose(said, wanted, atol=1e-5) and bool(said.std() > 0)]
print(json.dumps(found))
stop()
"""


@pytest.mark.slow
def test_two_ranks_hold_a_half_each_and_of_a_frozen_model_and_a_reward_model_too(chain: Chain) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TWO, str(chain.world / "sft" / "model"), str(chain.world / "reward" / "model")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    ranks = [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **pipes) for rank in range(2)
    ]
    for process in ranks:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        for kept, same in json.loads(output.strip().splitlines()[-1]).values():
            assert 0.5 <= kept < 0.52 and same
