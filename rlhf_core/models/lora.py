"""Low-rank adapters in a model's linear layers (Hu et al. 2022), by peft, put in place: the model keeps its class.

Saving merges: W + alpha/r * B A. The folder holds a plain model, whatever trained it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import Lora

_ADAPTER = "default"


def add_lora(model: Any, settings: Lora) -> None:
    """Put adapters into a Hugging Face model. What else is trained: new heads, and the rest unless `settings.only`.

    B is 0, so the model's function does not change; A is the same on every rank. BadInput where there is no such layer, or one
    whose adapters could not be merged.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = linear_names(model, settings.modules)
    if not names:
        found = sorted({name.rpartition(".")[2] for name in linear_names(model, [])})
        raise BadInput(
            f"optimizer.lora.modules: {settings.modules} name no linear layer; there are {', '.join(found)}"
        )
    if past := [name for name in names if _read_past(model, name)]:
        layers = sorted({name.rpartition(".")[2] for name in past})
        raise BadInput(
            f"optimizer.lora.modules: {type(model).__name__} reads the weights of {', '.join(layers)} past their adapters; name other layers "
            f"({', '.join(sorted({name.rpartition('.')[2] for name in names} - set(layers)))})"
        )
    alpha = settings.alpha or 2.0 * settings.rank
    make: Any = LoraConfig
    config = make(r=settings.rank, lora_alpha=alpha, target_modules=names, bias="none")
    others = {id(p) for p in model.parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.rank)
        try:
            inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
        except ValueError as error:  # layers whose weights are read past their adapters, as in Mamba
            raise BadInput(f"optimizer.lora.modules: {error}") from error
    # peft takes the names of a mixture's shared expert (gate_proj, ...) for those of the experts, which are no linear layers here.
    if any(not isinstance(layer.get_base_layer(), _matrices()) for layer in lora_layers(model)):
        found = sorted({name.rpartition(".")[2] for name in names})
        raise BadInput(
            f"optimizer.lora.modules: in {type(model).__name__} peft would put adapters into the experts, which cannot be merged; name "
            f"those of attention alone (linear layers: {', '.join(found)})"
        )
    matrices = {id(p) for layer in lora_layers(model) for p in layer.get_base_layer().parameters()}
    head = getattr(model, "score", None)
    heads = {id(p) for p in head.parameters()} if isinstance(head, nn.Module) else set()
    for parameter in model.parameters():
        if id(parameter) in others:  # the old ones
            parameter.requires_grad_(
                id(parameter) in heads or not (settings.only or id(parameter) in matrices)
            )


def linear_names(model: Any, wanted: list[str]) -> list[str]:
    """Full names of the linear layers inside the blocks: those with a wanted last name, or all; never a head."""
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _matrices())
        and not str(inspect.signature(type(module).forward).return_annotation).startswith("tuple")  # PhiMoE's router: more than a product
        and module is not output
        and name != "score"
        and (not wanted or name.rpartition(".")[2] in wanted)
    ]


def _read_past(model: Any, name: str) -> bool:
    """Whether the module that holds a linear layer multiplies by its weights itself, as Mamba's mixers do: adapters would be learned
    where they do nothing, or not at all, and be merged all the same. Slices of weights are Bloom's imitation of several cards, which
    is off."""
    owner, _, own = name.rpartition(".")
    try:
        code = inspect.getsource(type(model.get_submodule(owner)))
    except (OSError, TypeError):  # made without a file
        return False
    return re.search(rf"\bself\.{re.escape(own)}\.weight\b(?!\[|\.(dtype|device|shape))", code) is not None


def _matrices() -> tuple[type[nn.Module], ...]:
    from transformers.pytorch_utils import Conv1D

    return nn.Linear, Conv1D


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def has_lora(model: Any) -> bool:
    return any("lora_A" in name for name, _ in model.named_parameters())


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The model as it was before the adapters: a reference policy that needs no second copy of the weights."""
    layers = lora_layers(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


class WithoutAdapters:
    """A policy wrapper (rlhf_core.models.networks.PolicyModel) as it was before its adapters: no second copy of the weights."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    @property
    def model(self) -> Any:
        return self.policy.model

    def __call__(self, *args: Any) -> Any:
        with adapters_off(self.model):
            return self.policy(*args)


def is_frozen_below(settings: Lora | None) -> bool:
    """Whether the weights under the adapters stay as they were loaded."""
    return settings is not None and settings.only and not settings.from_share


def merged(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """A whole state dict of the adapted model as that of the plain one: names as they were, products added.

    The sum is formed in float32. Tied tensors stay one tensor.
    """
    from transformers.pytorch_utils import Conv1D

    layers = {name: module for name, module in model.named_modules() if module in set(lora_layers(model))}
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        layer_name, inside, rest = name.partition(".base_layer.")
        if inside and rest == "weight" and layer_name in layers:
            layer = layers[layer_name]
            first, second = (state[f"{layer_name}.lora_{part}.{_ADAPTER}.weight"].float() for part in "AB")
            product = second @ first * layer.scaling[_ADAPTER]
            if isinstance(layer.get_base_layer(), Conv1D):
                product = product.T
            value = (value.float() + product.to(value.device)).to(value.dtype)
        plain[f"{layer_name}.{rest}" if inside else name] = value
    return plain
