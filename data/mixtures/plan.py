"""The declared plan: phases, and in each the tokens that every source gives. Arithmetic on counts alone.

Epochs are capped where a source says so (up to four passes are nearly as good as new data: Muennighoff et al. 2023,
"Scaling Data-Constrained Language Models", section 5); what a capped source cannot give goes to the others by their
weights. Staged schedules: good data late or early or throughout; instruction data in the last, annealed phase is `late`
with that source as the good one (Hu et al. 2024, "MiniCPM", section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.mixtures.settings import MixturePhase, MixtureSettings

VERSION = 1


@dataclass(frozen=True)
class Size:
    """What a source holds. `kind`: documents (Parquet) or conversations (JSON lines)."""

    kind: str
    documents: int
    tokens: int


def make(sizes: Mapping[str, Size], settings: MixtureSettings) -> dict[str, Any]:
    """The plan as JSON: {"version", "seed", "sources", "phases": [{"name", "tokens", "sources": {NAME: share}, "read": {NAME: tokens}}]}.

    `read` is exact and adds up to `tokens`; `sources` are its shares.

    Raises:
        ValueError: a source of the settings has no size or no token; the caps leave fewer tokens than the plan asks for.
    """
    _check(sizes, settings)
    left = {name: _cap(sizes[name], settings, name) for name in settings.sources}
    phases = []
    for phase, tokens in zip(stages(settings), _phase_tokens(settings), strict=True):
        weights = {name: phase.weights.get(name, source.weight) for name, source in settings.sources.items()}
        read, capped = allot(tokens, weights, left)
        if sum(read.values()) < tokens:
            raise ValueError(
                f"phase {phase.name!r} asks for {tokens:,} tokens and its sources have {sum(read.values()):,} left "
                f"({', '.join(f'{name} {left[name]:,}' for name in weights if weights[name])}); raise max_epochs or max_tokens, "
                "add sources, or plan fewer tokens"
            )
        for name, taken in read.items():
            left[name] -= taken
        phases.append({
            "name": phase.name, "tokens": tokens, "sources": {name: taken / tokens for name, taken in read.items()}, "read": read,
            "capped": capped,
        })  # fmt: skip
    return {
        "version": VERSION,
        "seed": settings.seed,
        "sources": {name: {"kind": sizes[name].kind, "documents": sizes[name].documents, "tokens": sizes[name].tokens} for name in settings.sources},
        "phases": phases,
    }


def stages(settings: MixtureSettings) -> list[MixturePhase]:
    """The phases that the settings list, or those of the named schedule."""
    if settings.phases:
        return list(settings.phases)
    good = {name: source.weight for name, source in settings.sources.items() if name in settings.good}
    rest = {name: source.weight for name, source in settings.sources.items() if name not in settings.good}
    plain = {**dict.fromkeys(good, 0.0), **rest}
    mixed = {**_scaled(good, settings.good_share), **_scaled(rest, 1 - settings.good_share)} if good else rest
    portion = settings.good_portion
    if settings.schedule == "late":
        return [MixturePhase(name="stable", share=1 - portion, weights=plain), MixturePhase(name="late", share=portion, weights=mixed)]
    if settings.schedule == "early":
        return [MixturePhase(name="early", share=portion, weights=mixed), MixturePhase(name="stable", share=1 - portion, weights=plain)]
    return [MixturePhase(name="throughout", share=1, weights=mixed)]


def allot(tokens: int, weights: Mapping[str, float], left: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    """`tokens` dealt by `weights`, none above what is `left` of a source; and the sources that were capped.

    Water-filling: whoever would get more than it has gives all it has, and the rest is dealt again among the others.
    Whole tokens by largest remainders, ties by order. Falls short of `tokens` only where all sources are used up.
    """
    given = dict.fromkeys(weights, 0)
    open_ = [name for name, weight in weights.items() if weight > 0 and left[name] > 0]
    capped: list[str] = [name for name, weight in weights.items() if weight > 0 and left[name] <= 0]
    remaining = tokens
    while open_ and remaining:
        total = sum(weights[name] for name in open_)
        over = [name for name in open_ if remaining * weights[name] / total > left[name]]
        if not over:
            shares = [remaining * weights[name] / total for name in open_]
            for name, count in zip(open_, _whole(shares, remaining, [left[name] for name in open_]), strict=True):
                given[name] = count
            break
        for name in over:
            given[name] = left[name]
            remaining -= left[name]
        capped += over
        open_ = [name for name in open_ if name not in over]
    return given, sorted(capped)


def _whole(shares: Sequence[float], total: int, most: Sequence[int]) -> list[int]:
    """Shares as whole numbers that add up to `total`, each at most `most`."""
    counts = [min(int(share), limit) for share, limit in zip(shares, most, strict=True)]
    order = sorted(range(len(shares)), key=lambda index: (-(shares[index] - counts[index]), index))
    missing = total - sum(counts)
    while missing > 0:
        before = missing
        for index in order:
            if missing and counts[index] < most[index]:
                counts[index] += 1
                missing -= 1
        if missing == before:
            break
    return counts


def _phase_tokens(settings: MixtureSettings) -> list[int]:
    parts = stages(settings)
    total = sum(phase.share for phase in parts)
    limits = [settings.tokens] * len(parts)
    return _whole([settings.tokens * phase.share / total for phase in parts], settings.tokens, limits)


def _scaled(weights: Mapping[str, float], to: float) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total * to if total else 0.0 for name, weight in weights.items()}


def _cap(size: Size, settings: MixtureSettings, name: str) -> int:
    source = settings.sources[name]
    limits = [source.max_tokens] if source.max_tokens is not None else []
    if source.max_epochs is not None:
        limits.append(int(size.tokens * source.max_epochs))
    return min(limits, default=settings.tokens)


def _check(sizes: Mapping[str, Size], settings: MixtureSettings) -> None:
    for name in settings.sources:
        if name not in sizes:
            raise ValueError(f"mixture source {name!r} was not measured; measured: {', '.join(sizes) or 'none'}")
        if sizes[name].documents < 1 or sizes[name].tokens < 1:
            raise ValueError(f"mixture source {name!r} is empty: {sizes[name].documents} documents, {sizes[name].tokens} tokens")
