"""Settings of a mixture: its sources, its phases, and how documents are sampled by label."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from data.settings import Settings


class LabelSampling(Settings):
    """How often a document is taken, by one label: numbers by exp(z / temperature), others by a table of factors."""

    label: str = Field(description="Column of a label table or of the documents themselves (lang, source); of conversations one of their labels, lang or source.")
    temperature: float = Field(2.0, gt=0, description="Of z, the label's standard score; large = all alike (QuRating: 2.0).")
    factors: dict[str, float] | None = Field(None, description="Value of the label -> copies of a document; instead of temperature.")
    otherwise: float = Field(1.0, ge=0, description="Copies of a document whose label is missing or in no factor.")
    max_copies: float = Field(4.0, gt=0, description="Copies at most (Muennighoff et al. 2023: repeated up to 4 times data are nearly as good as new).")

    @field_validator("factors", mode="before")
    @classmethod
    def _values_are_named_as_in_json(cls, factors: Any) -> Any:
        """YAML's and Python's True is `true`; numbers may stand without quotes."""
        if not isinstance(factors, dict):
            return factors
        return {str(value).lower() if str(value) in ("True", "False") else str(value): factor for value, factor in factors.items()}

    @field_validator("factors")
    @classmethod
    def _factors_are_positive(cls, factors: dict[str, float] | None) -> dict[str, float] | None:
        if factors is not None and any(factor < 0 for factor in factors.values()):
            raise ValueError("a factor must not be negative")
        return factors


class MixtureSource(Settings):
    origin: str = Field(description="An artifact (corpus, splits/sft, instructions) or a file or folder of documents or conversations.")
    weight: float = Field(1.0, ge=0, description="Its part of the tokens, in proportion to the other sources' weights.")
    max_epochs: float | None = Field(4.0, gt=0, description="Passes over it at most; null = no limit (Muennighoff et al. 2023: up to 4 nearly as good as new).")
    max_tokens: int | None = Field(None, ge=1, description="Tokens of it at most, in all phases together.")
    sample: LabelSampling | None = Field(None, description="Take its documents by quality or label; null = each once an epoch.")


class MixturePhase(Settings):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="What tables and plots call it.")
    share: float = Field(gt=0, description="Part of all tokens, in proportion to the other phases' shares.")
    weights: dict[str, float] = Field(default_factory=dict, description="Source -> weight in this phase; others keep their own; 0 = left out.")


class MixtureSettings(Settings):
    """What pretraining reads, declared to the token."""

    tokens: int = Field(ge=1, description="Tokens in all.")
    sources: dict[str, MixtureSource] = Field(min_length=1, description="What is mixed, by a name of your own.")
    schedule: Literal["throughout", "early", "late"] = Field(
        "throughout", description="When the good sources are read, where no phases are listed. Instruction data in the anneal: late, with it as good."
    )
    good: list[str] = Field(default_factory=list, description="Names of the good sources.")
    good_share: float = Field(0.5, gt=0, le=1, description="Their part of the tokens while they are read.")
    good_portion: float = Field(0.1, gt=0, lt=1, description="Part of all tokens that the early or late phase has (MiniCPM: the last 10%).")
    phases: list[MixturePhase] = Field(default_factory=list, description="In order; instead of a schedule.")
    seed: int = Field(1, ge=0, description="Draws the order of documents and the copies of sampled ones.")

    @model_validator(mode="after")
    def _names_are_known(self) -> MixtureSettings:
        bad = [name for name in self.sources if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]
        named = {*self.good, *(name for phase in self.phases for name in phase.weights)} - set(self.sources)
        if bad or named:
            raise ValueError(f"unknown or malformed source {(bad or sorted(named))[0]!r}; sources: {', '.join(self.sources)}")
        if len({phase.name for phase in self.phases}) < len(self.phases):
            raise ValueError("two phases have the same name")
        if self.schedule != "throughout" and not self.phases and set(self.good) in (set(), set(self.sources)):
            raise ValueError(f"schedule {self.schedule!r} needs good sources, and others beside them")
        for phase in self.phases:
            if not any(phase.weights.get(name, source.weight) > 0 for name, source in self.sources.items()):
                raise ValueError(f"phase {phase.name!r} has no source with a weight above 0")
        return self
