"""The short way through a small Llama is transformers' own function, outputs and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_core.generation import llama, small
from rlhf_core.models.lora import add_lora
from rlhf_core.models.networks import hidden_at
from rlhf_core.settings import Lora

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 40,
}  # fmt: skip


def make(**changed: Any) -> Any:
    """A Llama whose norms are not the identity, so that a forgotten weight shows."""
    torch.manual_seed(3)
    model: Any = LlamaForCausalLM(LlamaConfig(**(SHAPE | changed)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    select = torch.rand(4, 11, generator=generator) < 0.4
    select[2] = False  # a row of which nothing is asked
    return torch.randint(0, 97, (4, 11), generator=generator), select


def siblings() -> tuple[Tensor, Tensor]:
    """Answers to two prompts, with padding behind what is asked for, and one answer twice."""
    input_ids, _ = batch()
    input_ids = input_ids.repeat_interleave(3, 0)
    input_ids[1, 6:], input_ids[2, 4:], input_ids[4, 9:] = 7, 8, 9
    select = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, (first, last) in enumerate([(5, 8), (2, 10), (3, 6), (7, 8), (10, 10), (7, 8)] * 2):
        select[row, first : last + 1] = True
    return input_ids, select


@pytest.mark.parametrize("rows", [batch, siblings])
@pytest.mark.parametrize("kv_heads", [6, 2, 1])
@pytest.mark.parametrize("head_dim", [None, 8])
def test_outputs_and_gradients_are_those_of_transformers(kv_heads: int, head_dim: int | None, rows: Any) -> None:
    input_ids, select = rows()
    pad_id = int(input_ids[0, 0])  # whose embedding does not learn
    model = make(num_key_value_heads=kv_heads, head_dim=head_dim, tie_word_embeddings=True, pad_token_id=pad_id)
    assert small.family(model, input_ids.shape[1]) is llama
    found = []
    for read in (
        lambda: llama.hidden_states(model, input_ids, select),
        lambda: model.base_model(input_ids=input_ids, use_cache=False)[0][select],
    ):
        model.zero_grad()
        hidden = read()
        weights = torch.sin(torch.arange(hidden.numel(), dtype=torch.float32)).view_as(hidden)
        (hidden * weights).sum().backward()
        found.append((hidden.detach(), {name: p.grad.clone() for name, p in model.model.named_parameters()}))
    (ours, our_gradients), (theirs, their_gradients) = found
    assert ours.shape == (int(select.sum()), 24)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, gradient in their_gradients.items():
        noise = 5e-7 * float(gradient.abs().max())  # of sums in float32; transformers' own is as large
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=max(1e-5, noise), msg=name)


def test_nothing_selected_gives_nothing_and_gradients_of_zero() -> None:
    model = make()
    input_ids, select = batch()
    hidden = llama.hidden_states(model, input_ids, torch.zeros_like(select))
    assert hidden.shape == (0, 24)
    hidden.sum().backward()
    assert all(not p.grad.any() for p in model.model.parameters())


def served(model: Any, input_ids: Tensor) -> bool:
    return small.hidden_states(model, input_ids, torch.ones_like(input_ids, dtype=torch.bool)) is not None


def test_it_steps_aside_for_what_it_does_not_compute() -> None:
    input_ids, _ = batch()
    assert served(make(), input_ids)
    assert served(make(attn_implementation="eager"), input_ids)
    assert not served(make(attention_bias=True), input_ids)
    assert not served(make(hidden_act="gelu"), input_ids)
    assert not served(
        make(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), input_ids
    )
    assert not served(make().to(torch.bfloat16), input_ids)
    assert not served(make(), torch.zeros(1, small.SHORT + 1, dtype=torch.int64))
    flash = make()
    flash.config._attn_implementation = "flash_attention_2"
    assert not served(flash, input_ids)
    checkpointing = make()
    checkpointing.gradient_checkpointing_enable({"use_reentrant": False})
    assert not served(checkpointing, input_ids)
    adapted = make()
    add_lora(adapted, Lora(rank=2))
    assert not served(adapted, input_ids)


def test_adapters_are_not_forgotten_where_it_steps_aside() -> None:
    model = make()
    input_ids, select = batch()
    before = hidden_at(model, input_ids, select)
    add_lora(model, Lora(rank=2))
    torch.testing.assert_close(hidden_at(model, input_ids, select), before, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
    assert (hidden_at(model, input_ids, select) - before).abs().max() > 0.1
