"""What the alignment stages can be told: groups of settings that `rlhf_core.settings` puts together into stages.

Plain types, no torch. `Settings` and `WHERE` are defined here, at the bottom, and re-exported by `rlhf_core.settings`.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

WHERE: Any = {"fingerprint": False}
FILE: Any = {"file": True}  # its content is part of the fingerprint


class Settings(BaseModel):
    """Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RewardSource(Settings):
    """One of several rewards: a model or a Python function."""

    model: str | None = Field(
        None, description="A reward stage, or a folder or hub name of any sequence classifier."
    )
    function: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`module:function`, called with the prompts (rlhf_core.dataset.records.Record) and the answers (str) of a batch; "
        "returns one number an answer. Imported in the job alone; it runs with the job's rights.",
    )
    version: int = Field(
        1,
        ge=1,
        description="Raise it when something changes that the function's module imports: the module's own file is in the "
        "fingerprint, what it imports is not.",
    )
    label: int | None = Field(
        None, ge=0, description="Of a classifier with several labels: the one whose log-odds are the score."
    )
    weight: float = Field(1.0, description="Its share in the sum, or its scale in the minimum.")

    @model_validator(mode="after")
    def _one_of_two(self) -> RewardSource:
        if (self.model is None) == (self.function is None):
            raise ValueError("give either model or function")
        return self

    def code(self) -> Path | None:
        """The file of the function's module, found without importing any of it; ValueError where there is none."""
        if self.function is None:
            return None
        name = self.function.partition(":")[0]
        places: list[str] | None = [os.getcwd(), *sys.path]  # as `python -m` looks for it in the job
        spec, known = None, ""
        for part in name.split("."):
            known = f"{known}.{part}".lstrip(".")
            spec = PathFinder.find_spec(known, places) if places is not None else None
            places = list(spec.submodule_search_locations or []) if spec else None
        if spec is None or not spec.origin:
            raise ValueError(f"function: no module {name}; it must be importable from the working directory")
        return Path(spec.origin)


class PatternPenalty(Settings):
    """A degenerate pattern: what reward models are known to be fooled by (LMFlow's RAFT run: '#' and emoticons)."""

    pattern: str = Field(description="A regular expression, searched in the answer's text.")
    penalty: float = Field(1.0, ge=0, description="Taken off the score for every match.")
    most: int = Field(1, ge=1, description="Matches that are counted in one answer.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern


class SamplingOptions(Settings):
    """How answers are written."""

    max_prompt_length: int = Field(64, ge=4, description="Tokens; longer prompts are dropped and counted.")
    max_new_tokens: int = Field(32, ge=1, description="Tokens of one answer at most.")
    min_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Null = every rollout may write max_new_tokens; else its limit is drawn from [this, max_new_tokens] "
        "(LMFlow's RAFT: 64 to 127). It is a limit, never a forced length.",
    )
    temperature: float = Field(1.0, gt=0, description="Of sampling, and of every log-probability.")
    cut_marks: list[str] = Field(
        [],
        description="Role marks written as plain text, such as '\\nUser:'; an answer is cut where one begins. Role marks "
        "that are special tokens end an answer anyway.",
    )

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> SamplingOptions:
        if self.min_new_tokens and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens: {self.min_new_tokens} is above max_new_tokens ({self.max_new_tokens})")
        return self


class VllmServer(Settings):
    """Answers written by vLLM on GPUs instead of by the job itself. Not tried on a GPU yet; needs the extra `vllm`."""

    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="In which the server computes; the log-probabilities are the policy's own."
    )
    url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Of a running server, such as http://gpu1:8000, that serves `folder` with VLLM_SERVER_DEV_MODE=1; null = "
        "the job starts one of its own on this machine.",
        json_schema_extra=WHERE,
    )
    folder: str | None = Field(
        None,
        description="Where the weights are handed over: written by the job, read by the server at `url`; null = a temporary one.",
        json_schema_extra=WHERE,
    )
    devices: str | None = Field(
        None,
        pattern=r"^\d+(,\d+)*$",
        description="GPUs of the job's own server, as in CUDA_VISIBLE_DEVICES; null = those that the job sees.",
        json_schema_extra=WHERE,
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share the server's weights.", json_schema_extra=WHERE)
    gpu_memory_share: float = Field(
        0.3, gt=0, lt=1, description="Of a card, for the server's weights and cache; training needs the rest.",
        json_schema_extra=WHERE,
    )  # fmt: skip
    requests: int = Field(256, ge=1, description="Answers a rank asks for at once.", json_schema_extra=WHERE)
    timeout_seconds: float = Field(
        600.0, gt=0, description="For one answer, or for reading the weights.", json_schema_extra=WHERE
    )
    start_seconds: float = Field(900.0, gt=0, description="For the job's own server to start.", json_schema_extra=WHERE)

    @model_validator(mode="after")
    def _url_and_folder(self) -> VllmServer:
        if (self.url is None) != (self.folder is None):
            raise ValueError("url and folder go together: the server at url serves the folder")
        return self


class RewardOptions(Settings):
    """How answers are scored."""

    reward_model: str | None = Field(
        None, description="The stage that leaves the reward model, or a model folder or hub name."
    )
    rewards: list[RewardSource] = Field([], description="Further rewards, or all of them.")
    combine: Literal["sum", "minimum"] = Field(
        "sum",
        description="Of the normalised and weighted rewards (minimum: helpful and safe apart, as in Llama 2).",
    )
    reward_clip: float = Field(5.0, gt=0, description="Scores are clipped to +- this (DeepSpeed-Chat: 5).")
    missing_end_penalty: float = Field(
        1.0, ge=0, description="Taken off the score of an answer that does not end."
    )
    pattern_penalties: list[PatternPenalty] = Field([], description="Degenerate patterns in answers, and what they cost.")
    reward_normalisation: Literal["none", "references", "running"] = Field(
        "references",
        description="references: scores are shifted and scaled so that the starting policy's answers have mean 0 and "
        "deviation 1 (Ziegler et al. 2019, lm-human-preferences); running: mean and deviation of all scores so far.",
    )

    @model_validator(mode="after")
    def _some_reward(self) -> RewardOptions:
        if not self.sources and self.needs_reward:
            raise ValueError("name a reward: reward_model, or a list of rewards")
        return self

    @property
    def needs_reward(self) -> bool:
        return True

    @property
    def sources(self) -> dict[str, RewardSource]:
        """Every reward by its role in the job's inputs."""
        first = {"reward_model": RewardSource(model=self.reward_model)} if self.reward_model else {}
        return first | {f"reward_{number}": source for number, source in enumerate(self.rewards, 1)}

    def code(self) -> dict[str, Path]:
        """Role -> the file of a reward function, whose content is part of what the stage is made from."""
        found = {f"{role}_code": source.code() for role, source in self.sources.items()}
        return {role: file for role, file in found.items() if file}

    @property
    def reward_models(self) -> dict[str, str]:
        """Role -> the model that it names."""
        return {role: source.model for role, source in self.sources.items() if source.model}


class PolicyGradientOptions(Settings):
    """What PPO, RLOO and GRPO share."""

    ppo_epochs: int = Field(1, ge=1, description="Passes over one rollout.")
    minibatches: int = Field(1, ge=1, description="Updates a PPO epoch.")
    kl_coef: float = Field(0.1, ge=0, description="Weight of the KL to the start (DeepSpeed-Chat: 0.1).")
    kl_target: float | None = Field(
        None,
        gt=0,
        description="Nats a response. Null = kl_coef stays; else it follows the measured KL: times 1 + clip(KL/target - 1, "
        "+-0.2) * answers / kl_horizon after each rollout (Ziegler et al. 2019; TRL: 6).",
    )
    kl_horizon: float = Field(
        10_000.0, gt=0, description="Answers; the slower the longer (Ziegler et al. 2019)."
    )
    clip_range: float = Field(0.2, gt=0, description="How far the ratio of new to old probability counts from 1 (Schulman et al. 2017: 0.2).")
    entropy_coef: float = Field(
        0.0, ge=0, description="Weight of the entropy bonus (Schulman et al. 2017, eq. 9)."
    )
    kl_stop: float | None = Field(
        None,
        gt=0,
        description="Nats a token: no further update of this rollout once the policy is so far from the one that wrote it "
        "(Spinning Up: 0.015).",
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1,
        description="The saved policy is this moving average (DeepSpeed-Chat: 0.992); the stage's own figures are of the policy that learns.",
    )
    ptx_coef: float = Field(
        0.0,
        ge=0,
        description="Weight of the pretraining loss beside the policy's (PPO-ptx; InstructGPT, DeepSpeed-Chat: 27.8).",
    )
    ptx_data: str | None = Field(
        None, description="The corpus of PPO-ptx: the stage `corpus`. Needed where ptx_coef is not 0."
    )

    @model_validator(mode="after")
    def _ptx_has_data(self) -> PolicyGradientOptions:
        if bool(self.ptx_coef) != bool(self.ptx_data):
            raise ValueError("ptx_coef and ptx_data go together: give both, as in ptx_data: corpus, or none")
        return self


class CriticOptions(Settings):
    """PPO's value model."""

    value_init: str | None = Field(
        None, description="Starting weights of the value model; null = the reward model's."
    )
    value_backbone: Literal["separate", "shared"] = Field(
        "separate",
        description="A model of its own, or a head on the policy's last hidden state (less memory, one pass).",
    )
    value_clip_range: float = Field(0.2, gt=0, description="How far a value may move from its old one (DeepSpeed-Chat: 0.2).")
    value_coef: float = Field(
        1.0,
        ge=0,
        description="Value loss weight; a separate value model has an optimizer of its own (TRL, shared: 0.1).",
    )
    value_learning_rate: float = Field(
        5e-4,
        gt=0,
        description="Of a separate value model; with adapters of its head alone, they learn at optimizer.lora.learning_rate.",
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount of rewards, a token (InstructGPT: 1).")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="Of generalised advantage estimation (Schulman et al. 2016; InstructGPT: 0.95).")
    whiten_advantages: bool = Field(
        True, description="Over all response tokens of all ranks (OpenRLHF, TRL)."
    )

    @model_validator(mode="after")
    def _one_backbone_has_one_start(self) -> CriticOptions:
        if self.value_init and self.value_backbone == "shared":
            raise ValueError("value_init: a value head on the policy starts from the policy; leave it out, or value_backbone: separate")
        return self


class GroupOptions(Settings):
    """RLOO and GRPO: several answers of one prompt are each other's baseline."""

    samples: int = Field(4, ge=2, description="Answers a prompt (K); divides batch_size.")
