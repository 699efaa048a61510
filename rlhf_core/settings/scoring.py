"""What models of the training half are told that measure, score and answer for the data half. Plain types, no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf_core.settings.alignment import FILE, WHERE, Settings
from rlhf_core.settings.training import Launch


class ScoringSettings(Settings):
    """Perplexity of the crawl by a causal language model, instead of the corpus half's own models; without a model none."""

    model: str | None = Field(
        None, description="A Hugging Face model folder.", json_schema_extra=FILE
    )
    max_tokens: int = Field(
        1024, ge=16, description="Tokens of a document that are scored, from its beginning; the model's positions at most."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the model's weights and activations.")
    batch_tokens: int = Field(
        4096, ge=64, description="Tokens scored at once, padding included.", json_schema_extra=WHERE
    )
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)


class ScoringJob(Settings):
    """What `python -m rlhf_core.perplexity JOB.json` reads: `documents` is a folder of part-*.parquet (id, text)."""

    settings: ScoringSettings
    model: str
    documents: str
    output: str


class AnswerScoringSettings(Settings):
    """A reward model ranks the sampled answers of stage `judged`, in the teacher's place; without a model none does."""

    model: str | None = Field(
        None,
        description="Folder of a reward model, or of any sequence classifier.",
        json_schema_extra=FILE,
    )
    label: int | None = Field(
        None, ge=0, description="Of a classifier with several labels: the one whose log-odds are the score."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the model's weights and activations.")
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)


class AnswerScoringJob(Settings):
    """What `python -m rlhf_core.answer_scores JOB.json` reads: `samples` is a file of prompts with responses, in any order."""

    settings: AnswerScoringSettings
    model: str
    samples: str
    output: str


class AnswerSamplingSettings(Settings):
    """A model of this machine writes the answers that stage `sampled` wants, in the teacher's place; without a model none does."""

    model: str | None = Field(None, description="A model folder, or a training stage's artifact.", json_schema_extra=FILE)
    seed: int = Field(1, ge=0, description="Of the drawn answers; default: the recipe's.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the model's weights and activations.")
    batch_size: int = Field(128, ge=1, description="Answers written at once.", json_schema_extra=WHERE)
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)


class AnswerSamplingJob(Settings):
    """What `python -m rlhf_core.sample JOB.json` reads: `prompts` is a file of conversations that end with the user."""

    settings: AnswerSamplingSettings
    model: str
    prompts: str
    output: str
    responses: int = Field(ge=1, description="Answers to a prompt.")
    max_tokens: int = Field(ge=1, description="Tokens of one answer at most.")
    temperature: float = Field(gt=0, description="Of the distribution that tokens are drawn from.")
