"""What an evaluation can be told; re-exported by `rlhf_core.settings`. Plain types, no torch."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from rlhf_core.settings.alignment import FILE, WHERE, Settings
from rlhf_core.settings.training import Launch

_NAME = r"^[a-z][a-z0-9_]*$"  # as of a training stage: paths of figures, roles and file names are made of it


class KnowledgeSet(Settings):
    """Multiple-choice questions in the files of C-Eval or MMLU."""

    name: str = Field(pattern=_NAME, description="What the report calls it.")
    layout: Literal["ceval", "mmlu"] = Field(
        description="ceval: dev/ and val/ CSV files with a header, Chinese prompt; mmlu: dev/ and test/ without one, English prompt."
    )
    folder: str = Field(description="Folder of dev/ and val/ or test/.", json_schema_extra=FILE)
    shots: int = Field(5, ge=0, description="Examples before each question, fewer where the context is too short (both papers: 5).")


class EvaluationSettings(Settings):
    """What every model is asked and measured by when training is over."""

    max_new_tokens: int = Field(40, ge=1, description="Tokens of one answer at most.")
    max_prompts: int = Field(200, ge=1, description="Held-out prompts for win rate and samples.")
    sampled_prompts: int = Field(
        64, ge=0, description="Of those, how many are also answered at temperature 1, for variety, KL and best-of-N; 0 = none."
    )
    samples_a_prompt: int = Field(8, ge=1, description="Drawn answers a prompt and model; best-of-N goes up to this N.")
    preferred_pattern: str | None = Field(
        None, description="Rule judge: a regular expression that a preferred answer matches."
    )
    knowledge: list[KnowledgeSet] = Field([], description="Multiple-choice sets that every model is asked.")
    held_out_share: float = Field(
        0.03, ge=0, lt=1, description="Share of the corpus whose perplexity is measured, chosen by id as pretraining's eval_share, "
        "which must not be smaller; 0 = none."
    )
    max_documents: int = Field(200, ge=1, description="Held-out documents of each language.")
    window: int = Field(1024, ge=2, description="Tokens of a document read at once; the model's positions at most.")
    stride: int | None = Field(
        None, ge=1, description="Tokens by which the window moves on; null = half of it. The rest of a window is context alone."
    )
    others: dict[str, str] = Field(
        {}, description="Further models measured beside the recipe's: name -> folder or hub name, as the model before its vocabulary "
        "was extended."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the models' weights and activations. Two models lie on the card at a time, 4 or 2 bytes a parameter each."
    )
    samples: int = Field(8, ge=0, description="Side-by-side samples in the report.")
    seed: int = Field(1, ge=0, description="Of the answers that are sampled.")
    batch_tokens: int = Field(
        8192, ge=64, description="Tokens scored at once, padding included.", json_schema_extra=WHERE
    )
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)

    @model_validator(mode="after")
    def _fits_together(self) -> EvaluationSettings:
        if self.stride is not None and self.stride >= self.window:
            raise ValueError(f"stride: {self.stride} must be smaller than window ({self.window}), or tokens are left out")
        for name in self.others:
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"others: {name!r} is no name; names begin with a letter and have a to z, 0 to 9 and _")
        names = [one.name for one in self.knowledge]
        if len(set(names)) < len(names):
            raise ValueError(f"knowledge: every set needs a name of its own (given: {', '.join(names)})")
        return self
