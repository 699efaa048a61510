"""Settings of every training job: plain types, no torch, so that a bad recipe is refused before anything starts.

A field marked WHERE says where or how fast, never what comes out: it is left out of the artifact's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from rlhf_core.settings.alignment import (
    WHERE,
    CriticOptions,
    GroupOptions,
    PatternPenalty,
    PolicyGradientOptions,
    RewardOptions,
    SamplingOptions,
    Settings,
    VllmServer,
)
from rlhf_core.settings.evaluation import EvaluationSettings as EvaluationSettings  # named again: re-exported
from rlhf_core.settings.scoring import AnswerSamplingJob as AnswerSamplingJob
from rlhf_core.settings.scoring import AnswerSamplingSettings as AnswerSamplingSettings
from rlhf_core.settings.scoring import AnswerScoringJob as AnswerScoringJob
from rlhf_core.settings.scoring import AnswerScoringSettings as AnswerScoringSettings
from rlhf_core.settings.scoring import ScoringJob as ScoringJob
from rlhf_core.settings.scoring import ScoringSettings as ScoringSettings
from rlhf_core.settings.training import FreshModel as FreshModel
from rlhf_core.settings.training import Launch as Launch
from rlhf_core.settings.training import LengthGrouping as LengthGrouping
from rlhf_core.settings.training import Lora as Lora
from rlhf_core.settings.training import Optimizer as Optimizer
from rlhf_core.settings.training import TokenizerSettings as TokenizerSettings


class TrainingStage(Settings):
    """What every training stage has. `init` and `data` name artifacts: an earlier stage, `corpus`, `splits/sft`, ..."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Unique in the recipe; `--set NAME.key=value` finds it by this.",
    )
    init: str | None = Field(
        None, description="The stage that leaves the starting model, or a model folder or hub name."
    )
    data: str = Field(description="The artifact, folder or split that the examples come from.")
    epochs: float | None = Field(None, gt=0, description="Passes over the data; give this or steps. Neither: 1.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps, in epochs' place.")
    batch_size: int = Field(32, ge=1, description="Examples a step over all ranks.")
    max_length: int = Field(
        128, ge=8, description="Tokens of one example at most; longer ones are cut or dropped, and counted."
    )
    optimizer: Optimizer = Field(Optimizer(), description="Who turns gradients into steps, and which weights are trained.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of weights and activations in the model's passes.")
    seed: int = Field(1, ge=0, description="Of first weights, order of examples and sampling; default: the recipe's.")
    checkpoint_steps: int = Field(
        50, ge=1, description="A resumable checkpoint every so many steps.", json_schema_extra=WHERE
    )
    eval_steps: int = Field(50, ge=1, description="Held-out figures every so many steps.")
    tensorboard: bool = Field(
        False,
        description="Curves for TensorBoard beside metrics.jsonl; needs the extra `tensorboard`.",
        json_schema_extra=WHERE,
    )
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)

    @model_validator(mode="after")
    def _machinery_fits(self) -> TrainingStage:
        lora = self.optimizer.lora
        if lora and lora.from_share and (self.launch.zero_stage == 3 or not self.switches_to_lora):
            raise ValueError("optimizer.lora.from_share: not with ZeRO 3 nor in this kind; write two stages, full and LoRA")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give steps or epochs, not both (a stage that learns from its own answers counts iterations: steps)")
        if self.optimizer.kind == "lamb" and (self.launch.zero_stage or self.precision != "fp32"):
            # There DeepSpeed hands the optimizer all weights as one vector, and LAMB's steps are measured by layer.
            raise ValueError("optimizer.kind: lamb needs launch.zero_stage 0 and precision fp32; use adamw")
        if self.launch.attention == "flash_attention_2" and self.precision != "bf16":
            raise ValueError("launch.attention: flash_attention_2 needs precision bf16")
        return self

    @property
    def switches_to_lora(self) -> bool:
        """Whether this kind can begin with all weights and go on with adapters."""
        return False

    def models(self) -> dict[str, str]:
        """Role in the job's inputs -> the stage, folder or hub name that the model comes from."""
        return {"init": self.init} if self.init else {}

    def datasets(self) -> dict[str, str]:
        """Role in the job's inputs -> the artifact that the data come from."""
        return {"data": self.data}

    def code(self) -> dict[str, Path]:
        """Role in the job's inputs -> a file of code that the stage runs."""
        return {}


class SupervisedStage(TrainingStage):
    @property
    def switches_to_lora(self) -> bool:
        return True


class BlendedStage(SupervisedStage):
    """A stage whose `data` may have other sources beside it."""

    blend: dict[str, float] = Field(
        {},
        description="Further data (splits/sft, a folder, ...) -> passes over it in one pass over `data`: 2 = twice as often, "
        "0.1 = a tenth of it, drawn by the seed.",
    )

    def datasets(self) -> dict[str, str]:
        return super().datasets() | {f"data_{number}": name for number, name in enumerate(self.blend, 1)}

    @model_validator(mode="after")
    def _passes_are_positive(self) -> BlendedStage:
        if any(passes <= 0 for passes in self.blend.values()):
            raise ValueError("blend: passes must be above 0")
        return self


class PretrainStage(BlendedStage):
    """Data: a corpus, a folder of conversations (read as text, role marks and all), or a mixture of such sources."""

    kind: Literal["pretrain"] = "pretrain"
    data: str = Field("corpus", description="corpus, mixture, a split or a folder.")
    model: FreshModel = FreshModel()
    eval_share: float = Field(0.03, gt=0, lt=1, description="Share of documents held out, chosen by id.")
    extended_vocabulary: bool = Field(
        False, description="With `init`: use the recipe's tokenizer, made by tokenizer.extend, instead of the model's."
    )
    trained: Literal["all", "new_rows"] = Field(
        "all",
        description="new_rows: with an extended vocabulary, the embeddings of its new tokens alone (not with ZeRO 3).",
    )

    @model_validator(mode="after")
    def _rows_are_whole(self) -> PretrainStage:
        if self.trained == "new_rows" and (self.launch.zero_stage == 3 or self.optimizer.lora or not self.extended_vocabulary):
            raise ValueError("trained: new_rows needs extended_vocabulary, and goes neither with ZeRO 3 nor with LoRA")
        if self.blend and self.data == "mixture":
            raise ValueError("blend: a mixture's plan names all that is read; put the further data into `mixture`")
        if self.extended_vocabulary and not self.init:
            raise ValueError("extended_vocabulary: name the model to continue in `init`")
        return self

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the recipe's own tokenizer is an input."""
        return self.init is None or self.extended_vocabulary


class SftStage(LengthGrouping, BlendedStage):
    kind: Literal["sft"] = "sft"
    data: str = Field("splits/sft", description="A split or a folder of conversations.")


class RewardStage(LengthGrouping, SupervisedStage):
    kind: Literal["reward"] = "reward"
    data: str = Field("splits/reward", description="Rankings: splits/reward.")
    max_responses: int = Field(
        8, ge=2, description="K: responses of one prompt scored in one pass; all C(K,2) pairs count."
    )
    pooling: Literal["last", "mean"] = Field(
        "last", description="The score of an answer: at its last token, or the mean over its tokens."
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="How far better must be above worse, for each point between their labels.ratings, or each rank where "
        "there are none (Touvron et al. 2023, Llama 2, eq. 2).",
    )
    center_coef: float = Field(
        0.0, ge=0, description="Weight of the mean squared score sum, which keeps scores near 0."
    )
    normalise: bool = Field(
        True,
        description="The finished model's scores are shifted so that the best answers of the training rankings average 0 "
        "(Stiennon et al. 2020).",
    )


class OnPolicyStage(RewardOptions, SamplingOptions, TrainingStage):
    """A stage that learns from answers of its own."""

    data: str = Field("splits/ppo", description="A split or a folder whose prompts are answered.")
    steps: int = Field(40, ge=1, description="Iterations: one rollout batch and its updates each.")
    batch_size: int = Field(64, ge=1, description="Answers of one rollout, over all ranks.")
    eval_prompts: int = Field(64, ge=1, description="Held-out prompts answered before, during and after training.")
    watched_patterns: list[str] = Field(
        ["#", r"[:;]-?[()DP]|[\U0001F300-\U0001FAFF\u2600-\u27BF]"],
        description="Regular expressions whose share of answers is reported, and warned of when it grows with the reward.",
    )
    vllm: VllmServer | None = Field(None, description="Who writes the answers; null = the job itself.")

    @field_validator("watched_patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        return [PatternPenalty(pattern=pattern).pattern for pattern in patterns]

    def models(self) -> dict[str, str]:
        return super().models() | self.reward_models


class PolicyGradientStage(PolicyGradientOptions, OnPolicyStage):
    """A stage that follows the gradient of the reward."""

    def datasets(self) -> dict[str, str]:
        return super().datasets() | ({"ptx": self.ptx_data} if self.ptx_data else {})


class PpoStage(CriticOptions, PolicyGradientStage):
    kind: Literal["ppo"] = "ppo"

    def models(self) -> dict[str, str]:
        return super().models() | ({"value_init": self.value_init} if self.value_init else {})


class RlooStage(GroupOptions, PolicyGradientStage):
    """REINFORCE with the other answers' mean as baseline (Ahmadian et al. 2024)."""

    kind: Literal["rloo"] = "rloo"


class GrpoStage(GroupOptions, PolicyGradientStage):
    """Advantages relative to the prompt's other answers, the KL in the loss (Shao et al. 2024, DeepSeekMath)."""

    kind: Literal["grpo"] = "grpo"
    kl_coef: float = Field(
        0.04, ge=0, description="Weight of the KL to the start in the loss (DeepSeekMath: 0.04)."
    )
    scale_advantages: bool = Field(
        True, description="Divide by the deviation of the group (Dr. GRPO leaves it out: Liu et al. 2025)."
    )
    mean_over: Literal["response", "batch"] = Field(
        "response",
        description="A response weighs the same whatever its length (DeepSeekMath), or every token does (DAPO).",
    )


class RaftStage(GroupOptions, OnPolicyStage):
    """Fine-tuning on one's own best answers (Dong et al. 2023; LMFlow)."""

    kind: Literal["raft"] = "raft"
    samples: int = Field(8, ge=2, description="Answers a prompt (K); divides batch_size.")
    select: Literal["prompt", "top"] = Field(
        "prompt", description="The best answer of every prompt, or the best 1/K of all answers."
    )
    passes: int = Field(1, ge=1, description="Updates on the answers that were kept.")


class BestOfNStage(GroupOptions, OnPolicyStage):
    """Fine-tuning on the best answers that this and all earlier policies gave (rejection sampling, Touvron et al. 2023)."""

    kind: Literal["best_of_n"] = "best_of_n"
    samples: int = Field(8, ge=2, description="Answers a prompt (N); divides batch_size.")
    keep: int = Field(1, ge=1, description="Answers of a prompt that stay in the pool; `samples` at most.")
    passes: int = Field(1, ge=1, description="Updates on a rollout's prompts.")

    @model_validator(mode="after")
    def _pool_fits_a_batch(self) -> BestOfNStage:
        if self.keep > self.samples:
            raise ValueError(f"keep: {self.keep} answers a prompt are more than a rollout's {self.samples} (samples), whose passes learn them")
        if self.reward_normalisation == "running":
            raise ValueError("reward_normalisation: running scores every rollout by another yardstick, and the pool holds answers of many; take references or none")
        return self


class DpoStage(LengthGrouping, RewardOptions, SamplingOptions, TrainingStage):
    """Direct preference optimisation (Rafailov et al. 2023)."""

    kind: Literal["dpo"] = "dpo"
    data: str = Field("splits/reward", description="Rankings, or with pairs_from: samples prompts (splits/ppo).")
    pairs_from: Literal["data", "samples"] = Field(
        "data", description="Rankings of the data, or the best and the worst of the start's own answers."
    )
    pairs: Literal["best_worst", "all"] = Field(
        "best_worst", description="Of a ranking: best against worst, or every two answers."
    )
    samples: int = Field(8, ge=2, description="Answers a prompt, where pairs come from samples.")
    loss: Literal["sigmoid", "hinge"] = Field("sigmoid", description="hinge: Zhao et al. 2023, SLiC-HF.")
    beta: float = Field(0.1, gt=0, description="How dear it is to leave the reference (DeepSpeed-Chat: 0.1).")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of pairs taken to be the wrong way round (sigmoid)."
    )
    reference_free: bool = Field(False, description="Leave the reference out, as if it found all answers alike.")

    @property
    def needs_reward(self) -> bool:
        return self.pairs_from == "samples"

    def models(self) -> dict[str, str]:
        return super().models() | self.reward_models

    @model_validator(mode="after")
    def _data_fit(self) -> DpoStage:
        wanted = "splits/ppo" if self.pairs_from == "samples" else "splits/reward"
        if self.data in ("splits/sft", "splits/reward", "splits/ppo", "corpus") and self.data != wanted:
            raise ValueError(f"data: with pairs_from: {self.pairs_from} the data must be {wanted}")
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing: of the sigmoid loss alone, not of {self.loss}")
        if self.min_new_tokens:
            raise ValueError("min_new_tokens: dpo answers each prompt once, with max_new_tokens; leave it out")
        if self.pairs != "best_worst" and self.pairs_from == "samples":
            raise ValueError(f"pairs: {self.pairs} is of rankings; of its own answers dpo takes the best and the worst")
        if self.pairs_from == "data":
            # By value: a deployment's form gives every setting, most of them as they are anyway.
            plain = DpoStage.model_construct(name=self.name)
            for name in ("samples", *SamplingOptions.model_fields, *RewardOptions.model_fields):
                if getattr(self, name) != getattr(plain, name):
                    raise ValueError(f"{name}: pairs of the data are neither written nor scored; leave it out, or pairs_from: samples")
        if self.reward_normalisation == "running":
            raise ValueError("reward_normalisation: dpo answers once, before it trains; there is nothing running, take references or none")
        return self


AnyStage = Annotated[
    PretrainStage
    | SftStage
    | RewardStage
    | PpoStage
    | RlooStage
    | GrpoStage
    | RaftStage
    | BestOfNStage
    | DpoStage,
    Field(discriminator="kind"),
]


def _training_or_evaluation(stage: Any) -> str:
    """Which of the two a job's stage is meant to be: errors then speak of that one alone."""
    given = stage if isinstance(stage, dict) else vars(stage) if isinstance(stage, BaseModel) else {}
    return "training" if given.keys() & {"kind", "name"} else "evaluation"


class Job(Settings):
    """One launched job: what `python -m rlhf_core.train JOB.json` (under the deepspeed launcher) or `rlhf_core.evaluate` reads.

    `inputs` maps a role to a local folder or file:
    pretrain: `tokenizer` (from nothing), `init` (continued) or both (with an extended vocabulary); `data`: a corpus
        (documents/part-*.parquet), a folder of conversations (train.jsonl), or one with a mixture's plan.json, whose
        sources are such folders: inputs `source:NAME`, or sources/NAME beside the plan;
    sft, reward: `init`, `data` (a folder with train.jsonl and eval.jsonl);
    pretrain, sft: `data_1`, ... in the order of `blend`;
    ppo, rloo, grpo, raft, best_of_n, dpo: `init`, `data`, the rewards' models (`reward_model`, or `reward_1`, ... in the
    order of `rewards`), ppo's `value_init` where it is not the reward model, `ptx` (a corpus) where ptx_data names one;
    evaluation: `KIND:NAME` for every training stage in the recipe's order (`ppo:ppo`), `other:NAME` for further models,
    `questions` (a JSONL file of prompts with labels.reference, or of {"prompt", "answer"}), `splits` (the folder of
    {reward,ppo}/eval.jsonl), `corpus`, `knowledge/NAME` (a folder). A stage's artifact also gives its metrics.jsonl.
    For models and tokenizers an artifact folder may stand for its model/ or tokenizer/, and a hub name for a folder.
    `output` becomes the artifact; `work` keeps checkpoints from one attempt to the next.
    """

    stage: Annotated[
        Annotated[AnyStage, Tag("training")] | Annotated[EvaluationSettings, Tag("evaluation")], Discriminator(_training_or_evaluation)
    ]
    inputs: dict[str, str]
    output: str
    work: str
