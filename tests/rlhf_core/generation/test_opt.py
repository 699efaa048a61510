"""The short way through a small OPT is transformers' own function, outputs and gradients."""

from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from rlhf_core.generation import opt, small
from rlhf_core.models.lora import add_lora
from rlhf_core.models.networks import hidden_at
from rlhf_core.settings import Lora
from tests.rlhf_core.generation.test_llama import batch, served, siblings

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 40,
    "word_embed_proj_dim": 24, "max_position_embeddings": 32, "dropout": 0.0,
}  # fmt: skip


def make(seed: int = 3, **changed: Any) -> Any:
    """An OPT whose norms are not the identity and whose biases are not 0, so that a forgotten one shows."""
    torch.manual_seed(seed)
    model: Any = OPTForCausalLM(OPTConfig(**(SHAPE | changed)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def read(model: Any, input_ids: Tensor, select: Tensor, own: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """The hidden states at the places asked for, and gradients of some sum of them."""
    model.zero_grad()
    hidden = (
        opt.hidden_states(model, input_ids, select)
        if own
        else model.base_model(input_ids=input_ids, use_cache=False)[0][select]
    )
    weights = torch.sin(torch.arange(hidden.numel(), dtype=torch.float32)).view_as(hidden)
    (hidden.float() * weights).sum().backward()
    return hidden.detach().float(), {name: p.grad.float() for name, p in model.model.named_parameters()}


@pytest.mark.parametrize("rows", [batch, siblings])
@pytest.mark.parametrize("heads", [3, 1])
def test_outputs_and_gradients_are_those_of_transformers(heads: int, rows: Any) -> None:
    input_ids, select = rows()
    model = make(num_attention_heads=heads, pad_token_id=int(input_ids[0, 0]))  # whose embedding does not learn
    assert small.family(model, input_ids.shape[1]) is opt
    ours, our_gradients = read(model, input_ids, select, True)
    theirs, their_gradients = read(model, input_ids, select, False)
    assert ours.shape == (int(select.sum()), 24)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, gradient in their_gradients.items():
        noise = 5e-7 * float(gradient.abs().max())  # of sums in float32; transformers' own is as large
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=max(2e-5, noise), msg=name)


@pytest.mark.parametrize("rows", [batch, siblings])
def test_in_bf16_it_is_as_near_to_the_truth_as_transformers(rows: Any) -> None:
    """The truth: the same weights in float64. Over many models, since of one the gradients say little: where a unit stands at ReLU's
    corner, rounding decides whether it learns, and a processor rounds a product by where in memory it lies. Keys' biases have no
    gradient but noise: a softmax does not see them."""
    input_ids, select = rows()
    outputs: list[float] = []
    away: dict[str, list[tuple[float, float]]] = {}  # of a parameter, in each model: ours, theirs
    for seed in range(100):
        model, exact = make(seed).to(torch.bfloat16), make(seed).to(torch.bfloat16).double()
        model.set_attn_implementation("eager")
        truth, gradients = read(exact, input_ids, select, False)
        (ours, our_gradients), (theirs, their_gradients) = (read(model, input_ids, select, own) for own in (True, False))
        outputs.append(float((ours - truth).norm() / (theirs - truth).norm()))
        for name, gradient in gradients.items():
            if not name.endswith("k_proj.bias"):
                own, other = (float((found[name] - gradient).norm() / gradient.norm()) for found in (our_gradients, their_gradients))
                away.setdefault(name, []).append((own, other))
    assert median(outputs) < 1.1
    whole = [[sum(distances) for distances in zip(*model, strict=True)] for model in zip(*away.values(), strict=True)]
    assert median(own / other for own, other in whole) < 1.1
    for name, models in away.items():
        assert median(own / max(other, 0.01) for own, other in models) < 2, name


def test_nothing_selected_gives_nothing_and_gradients_of_zero() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = make().to(dtype)
        input_ids, select = batch()
        hidden = opt.hidden_states(model, input_ids, torch.zeros_like(select))
        assert hidden.shape == (0, 24)
        hidden.sum().backward()
        assert all(not p.grad.any() for p in model.model.parameters())


def test_without_fused_products_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().to(torch.bfloat16)
    found = []
    for fuses in (opt._fuses(), False):
        monkeypatch.setattr(opt, "_fuses", lambda fuses=fuses: fuses)
        found.append(read(model, *batch(), True))
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.02)


def test_it_steps_aside_for_what_it_does_not_compute() -> None:
    input_ids, _ = batch()
    assert served(make(), input_ids)
    assert served(make().to(torch.bfloat16), input_ids)
    assert not served(make().to(torch.float16), input_ids)
    assert not served(make(do_layer_norm_before=False), input_ids)
    assert not served(make(_remove_final_layer_norm=True), input_ids)
    assert not served(make(enable_bias=False), input_ids)
    assert not served(make(word_embed_proj_dim=12), input_ids)
    assert not served(make(activation_function="gelu"), input_ids)
    checkpointing = make()
    checkpointing.gradient_checkpointing_enable({"use_reentrant": False})
    assert not served(checkpointing, input_ids)


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
