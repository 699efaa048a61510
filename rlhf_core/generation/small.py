"""Which models and batches are small enough for functions of their own: on CPUs what surrounds their products is worth saving."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from rlhf_core.generation import llama, opt

SMALL = 50_000_000  # parameters; above, the products dwarf everything else
SHORT = 256  # tokens; above, torch's fused attention, which keeps no square of them, is faster

FAMILIES: dict[str, Any] = {"LlamaModel": llama, "OPTModel": opt}


def family(model: Any, length: int) -> ModuleType | None:
    """The module whose `hidden_states` computes rows of `length` tokens of this Hugging Face model (with or without a head); None
    where transformers' forward must: what is large, long, elsewhere than on a CPU, split over ranks, or has adapters."""
    base = model.base_model
    found: Any = FAMILIES.get(type(base).__name__)
    if found is None or length > SHORT or not found.is_plain(base):
        return None
    plain = all(type(m) is nn.Linear for layer in found.layers(base) for m in found.linears(layer))
    parameters = list(base.parameters())
    near = all(p.device.type == "cpu" and not hasattr(p, "ds_id") for p in parameters)
    return found if plain and near and sum(p.numel() for p in parameters) <= SMALL else None


def hidden_states(model: Any, input_ids: Tensor, select: Tensor) -> Tensor | None:
    """The last hidden states, normed, of right-padded rows: input_ids (B, L), select (B, L) bool -> (N, hidden) at the selected
    places, row by row; None where transformers' forward must compute them."""
    found: Any = family(model, input_ids.shape[1])
    if found is None or getattr(found.layers(model.base_model)[0], "gradient_checkpointing", False):
        return None
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return None
    states: Tensor = found.hidden_states(model, input_ids, select)
    return states
