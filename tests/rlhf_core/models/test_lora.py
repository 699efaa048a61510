"""Adapters change nothing at first, train alone, and are gone from what is saved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.engine import parameter_groups
from rlhf_core.generation import small
from rlhf_core.job.errors import BadInput
from rlhf_core.models.lora import adapters_off, add_lora, lora_layers, merged
from rlhf_core.models.networks import load_policy, load_scalar
from rlhf_core.settings import Lora, Optimizer, SftStage
from rlhf_core.stages.supervised import Supervised
from tests.rlhf_core.toy import Chain, read_metrics, weights

IDS = torch.tensor([[5, 9, 12, 33, 40]])
ALL = torch.ones_like(IDS, dtype=torch.bool)


def policy(chain: Chain) -> Any:
    source = str(chain.world / "sft" / "model")
    return load_policy(source, load_chat(source), "fp32").eval()


def moved(model: Any) -> None:
    for layer in lora_layers(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)


@torch.no_grad()
def test_merged_equals_adapter_and_off_equals_before(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    # One way of computing for all, so that "the same" is to the last bit.
    monkeypatch.setattr(small, "SHORT", 0)
    adapted, plain = policy(chain), policy(chain)
    before = adapted(IDS, ALL)
    add_lora(adapted.model, Lora(rank=4))
    assert torch.equal(adapted(IDS, ALL), before)  # B is 0
    moved(adapted.model)
    after = adapted(IDS, ALL)
    assert (after - before).abs().max() > 0.1
    with adapters_off(adapted.model):
        assert torch.equal(adapted(IDS, ALL), before)
    assert torch.equal(adapted(IDS, ALL), after)
    state = merged(adapted.model.state_dict(), adapted.model)
    assert set(state) == set(plain.model.state_dict())
    plain.model.load_state_dict(state)
    assert torch.allclose(plain(IDS, ALL), after, atol=1e-5)


@torch.no_grad()
def test_the_merged_weight_by_hand() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    model.get_output_embeddings = lambda: None  # type: ignore[assignment]
    add_lora(model, Lora(rank=1, alpha=3.0))
    layer = lora_layers(model)[0]
    layer.get_base_layer().weight.copy_(torch.eye(2))
    layer.lora_A["default"].weight.copy_(torch.tensor([[1.0, 2.0]]))
    layer.lora_B["default"].weight.copy_(torch.tensor([[1.0], [10.0]]))
    # I + 3/1 * (1, 10)^T (1, 2)
    assert merged(model.state_dict(), model)["0.weight"].tolist() == [[4.0, 6.0], [30.0, 61.0]]


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")
def test_experts_that_could_not_be_merged_are_refused_and_attention_is_not() -> None:
    """A saved DeepSeek lacked its experts: peft takes a shared expert's gate_proj for theirs."""
    import transformers

    def mixture() -> Any:
        torch.manual_seed(0)
        return transformers.DeepseekV3ForCausalLM(
            transformers.DeepseekV3Config(
                vocab_size=64, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
                first_k_dense_replace=1, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
            )
        )  # fmt: skip

    with pytest.raises(BadInput, match="experts, which cannot be merged; name those of attention"):
        add_lora(mixture(), Lora(rank=4))
    model = mixture()
    add_lora(model, Lora(rank=4, modules=["q_a_proj", "q_b_proj", "o_proj"]))
    moved(model)
    plain, ids = mixture(), torch.arange(20)[None]
    plain.load_state_dict(merged(model.state_dict(), model))
    with torch.no_grad():
        assert torch.allclose(plain(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


def test_layers_that_adapters_do_not_reach_are_refused_and_routers_get_none() -> None:
    """Jamba's merged weights said something else than its adapted ones; a router of PhiMoE was taken for a linear layer."""
    import transformers

    small: Any = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    jamba: Any = {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "use_mamba_kernels": False}
    with pytest.raises(BadInput, match=r"JambaForCausalLM reads the weights of dt_proj past their adapters; name other layers \(.*q_proj"):
        add_lora(transformers.JambaForCausalLM(transformers.JambaConfig(**small, **jamba)), Lora(rank=4))
    cases: list[tuple[Any, Lora]] = [
        (lambda: transformers.JambaForCausalLM(transformers.JambaConfig(**small, **jamba)), Lora(rank=4, modules=["q_proj", "in_proj"])),
        (lambda: transformers.PhimoeForCausalLM(transformers.PhimoeConfig(**small, num_local_experts=4)), Lora(rank=4)),
        (lambda: transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4)), Lora(rank=4)),
        (lambda: transformers.FalconForCausalLM(transformers.FalconConfig(**small)), Lora(rank=4)),
    ]
    for make, settings in cases:
        torch.manual_seed(0)
        model, ids = make().eval(), torch.arange(20)[None]
        add_lora(model, settings)
        moved(model)
        plain = make().eval()
        plain.load_state_dict(merged(model.state_dict(), model))
        with torch.no_grad():
            assert torch.allclose(plain(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


@pytest.mark.parametrize(("only", "others"), [(True, set()), (False, {"embed_tokens", "norm"})])
def test_what_is_trained_and_how_fast(chain: Chain, only: bool, others: set[str]) -> None:
    model = policy(chain)
    settings = Optimizer(
        learning_rate=1e-4, weight_decay=0.1, lora=Lora(rank=2, learning_rate=1e-3, only=only)
    )
    add_lora(model.model, settings.lora)  # type: ignore[arg-type]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained) is only
    assert all(any(part in name for name in trained) for part in others)
    assert not any("proj.base_layer" in name for name in trained)
    rates = {group["rate"]: group["weight_decay"] for group in parameter_groups(model, settings)}
    assert rates[10.0] == 0.0 and set(rates) == ({10.0} if only else {10.0, 1.0})


def test_a_new_head_is_trained_even_with_adapters_only(chain: Chain) -> None:
    source = str(chain.world / "sft" / "model")
    scalar = load_scalar(source, load_chat(source), "fp32", 0)
    add_lora(scalar.model, Lora(rank=2))
    assert scalar.model.score.weight.requires_grad and not any(
        "score" in n for n, _ in scalar.named_parameters() if "lora" in n
    )


def test_modules_that_do_not_exist_are_named(chain: Chain) -> None:
    with pytest.raises(BadInput, match=r"q_projection.*down_proj, .*q_proj"):
        add_lora(policy(chain).model, Lora(modules=["q_projection"]))


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_a_stage_with_adapters_learns_and_saves_a_plain_model(chain: Chain, kind: str) -> None:
    output = chain.run(
        f"lora_{kind}",
        kind,
        steps=8,
        optimizer={"learning_rate": 1e-3, "lora": {"rank": 4, "learning_rate": 1e-2}},
    )
    lines = read_metrics(output)
    assert lines[-1]["loss"] < lines[0]["loss"]
    saved, start = weights(output), weights(chain.world / ("pretrain" if kind == "sft" else "sft"))
    assert not any("lora" in name or "base_layer" in name for name in saved)
    assert torch.equal(saved["model.embed_tokens.weight"], start["model.embed_tokens.weight"])
    assert not torch.equal(
        saved["model.layers.0.mlp.up_proj.weight"], start["model.layers.0.mlp.up_proj.weight"]
    )
    if kind == "sft":
        AutoModelForCausalLM.from_pretrained(output / "model")


def test_full_first_then_adapters_and_resuming_on_either_side(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "steps": 8, "checkpoint_steps": 3, "eval_steps": 8,
        "optimizer": {"learning_rate": 1e-3, "lora": {"rank": 4, "from_share": 0.5}},
    }  # fmt: skip
    whole = chain.run("switch_whole", "sft", **options)
    step = Supervised.step
    embeddings: list[torch.Tensor] = []

    def watched(self: Any, number: int, share: float) -> dict[str, float]:
        if number in killed:
            raise KeyboardInterrupt
        line = step(self, number, share)
        embeddings.append(self.engine.module.model.get_input_embeddings().weight.detach().clone())
        return line

    killed = {5, 8}
    monkeypatch.setattr(Supervised, "step", watched)
    for _ in range(2):  # killed in 5 (checkpoint 3: all weights) and in 8 (checkpoint 6: adapters)
        with pytest.raises(KeyboardInterrupt):
            chain.run("switch_broken", "sft", **options)
        killed.discard(5)
    killed.clear()
    broken = chain.run("switch_broken", "sft", **options)
    assert read_metrics(broken) == read_metrics(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(broken).items())
    assert not torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[-1], embeddings[-2])  # frozen since step 4


def test_switching_is_refused_where_it_cannot_be() -> None:
    lora = {"lora": {"from_share": 0.5}}
    with pytest.raises(ValueError, match="write two stages"):
        SftStage.model_validate({"name": "s", "optimizer": lora, "launch": {"zero_stage": 3}})


@pytest.mark.parametrize("ema", [None, 0.5])
def test_ppo_with_adapters_answers_and_saves_merged(chain: Chain, ema: float | None) -> None:
    """The reference is the policy without its adapters: the first KL is 0, later ones are not."""
    optimizer = {"learning_rate": 1e-3, "lora": {"rank": 4, "learning_rate": 2e-2}}
    name = f"lora_ppo_{ema}"
    output = chain.run(name, "ppo", steps=3, eval_steps=3, optimizer=optimizer, ema_decay=ema)
    lines = read_metrics(output)
    assert abs(lines[0]["kl"]) < 1e-4 < abs(lines[-1]["eval_kl"])
    saved, start = weights(output), weights(chain.world / "sft")
    assert set(saved) == set(start)
    changed = {key for key in saved if not torch.equal(saved[key], start[key])}
    assert changed and all("proj" in key for key in changed)
