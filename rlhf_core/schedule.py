"""The learning rate as a pure function of the step; a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from rlhf_core.settings import Optimizer


def learning_rate_share(step: int, steps: int, settings: Optimizer) -> float:
    """Share of the full learning rate at `step` (1 .. steps).

    A linear warm-up from 0, then the schedule. At every share of `rewarm_at` both begin anew over the steps up to the
    next one, the warm-up from the minimum (Ibrahim et al. 2024, section 4).
    """
    bounds = [0, *(round(share * steps) for share in settings.rewarm_at), steps]
    part = max(index for index, bound in enumerate(bounds[:-1]) if step > bound)
    step, steps = step - bounds[part], bounds[part + 1] - bounds[part]
    lowest = settings.min_learning_rate_share
    warmup = settings.warmup_share * steps
    if step <= warmup:
        risen = step / max(warmup, 1.0)
        return lowest + (1 - lowest) * risen if part else risen
    return _after_warmup(step - warmup, steps, warmup, settings)


def _after_warmup(step: float, steps: int, warmup: float, settings: Optimizer) -> float:
    lowest = settings.min_learning_rate_share
    left = max(1.0, steps - warmup)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "linear":
        return 1 - (1 - lowest) * min(1.0, step / left)
    if settings.schedule == "cosine":
        return _cosine(1.0, lowest, step / left)
    stable, cosine = 1.0, 0.0
    if settings.schedule == "wcsd":
        stable, cosine = settings.stable_share, settings.cosine_share * steps
    if step <= cosine:
        return _cosine(1.0, stable, step / cosine)
    decay = max(1.0, settings.decay_share * steps)
    return stable + (lowest - stable) * max(0.0, 1 - (left - step) / decay)


def _cosine(high: float, low: float, progress: float) -> float:
    """Half a cosine from high to low (Loshchilov & Hutter 2017, eq. 5)."""
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
