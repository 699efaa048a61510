"""The learning rate as a pure function of the step; a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from rlhf_core.settings import Optimizer


def learning_rate_share(step: int, steps: int, settings: Optimizer) -> float:
    """Share of the full learning rate at `step` (1 .. steps): linear warm-up, then down to the minimum share.

    Cosine as in Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    warmup = settings.warmup_share * steps
    if step <= warmup:
        return step / max(warmup, 1.0)
    if settings.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if settings.schedule == "cosine" else 1 - progress
    return settings.min_learning_rate_share + (1 - settings.min_learning_rate_share) * fall
