"""A moving average of a policy's weights, saved and resumed like an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_core.engine import Ranks

_FILE = "ema.safetensors"


class Ema:
    """average = decay * average + (1 - decay) * weights, in float32; every rank keeps the whole average."""

    def __init__(self, model: Any, decay: float, ranks: Ranks) -> None:
        """`model`: a plain copy of the policy as it is at the start."""
        self.model, self.decay, self.ranks = model.float(), decay, ranks

    @torch.no_grad()
    def update(self, policy: Any) -> None:
        """`policy`: a plain Hugging Face model with the whole weights (any floating type)."""
        current = dict(policy.named_parameters())
        for name, kept in self.model.named_parameters():
            kept.lerp_(current[name].to(kept), 1 - self.decay)

    def state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The average in the type that the model is saved in. Nothing is averaged after it; tied weights stay one tensor."""
        return dict(self.model.to(dtype).state_dict())

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_model

        if self.ranks.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(folder / _FILE))

    def load(self, folder: Path) -> None:
        """Raises whatever safetensors raises on a broken file."""
        from safetensors.torch import load_model

        load_model(self.model, str(folder / _FILE))
