"""Settings of every training job: plain types, no torch, so that a bad recipe is refused before anything starts.

A field marked WHERE says where or how fast, never what comes out: it is left out of the artifact's fingerprint.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

WHERE: Any = {"fingerprint": False}


class Settings(BaseModel):
    """Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Launch(Settings):
    """Where a job runs. Nothing here may change its result beyond floating-point noise."""

    ranks: int = Field(1, ge=1, description="Processes on one node; one GPU each where there are some.")
    hostfile: str | None = Field(None, description="DeepSpeed hostfile for several nodes.")
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload: Literal["none", "optimizer", "all"] = Field(
        "none", description="Optimizer states, or parameters too, in host memory."
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="Examples a rank takes at once; null = batch_size / ranks."
    )
    gradient_checkpointing: bool = False
    threads: int | None = Field(None, ge=1, description="CPU threads a rank; null = cores / ranks.")
    timeout_seconds: float = Field(86400, gt=0, description="The job is ended when it runs longer.")
    silence_seconds: float = Field(
        1800, gt=0, description="The job is ended when it reports no step for so long."
    )


class FreshModel(Settings):
    """A Llama-architecture model from nothing."""

    hidden_size: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int | None = Field(None, ge=1, description="Grouped-query attention; null = heads.")
    intermediate_size: int | None = Field(
        None, ge=8, description="Null = 8/3 of hidden_size, rounded up to 32."
    )
    context_length: int = Field(256, ge=16, description="Tokens.")
    init_std: float | None = Field(
        None,
        gt=0,
        description="Deviation of the first weights; null = sqrt(2 / (5 hidden_size)) (Nguyen & Salazar 2019), which is "
        "0.02 at width 1000 and more in narrow models, where 0.02 learns slowly.",
    )
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary positions (Llama: 10000).")
    tie_embeddings: bool = Field(
        True, description="Input and output embeddings are one matrix, as in most models below 1B."
    )


class Optimizer(Settings):
    learning_rate: float = Field(5e-4, gt=0)
    min_learning_rate_share: float = Field(
        0.1, ge=0, le=1, description="Of learning_rate, reached at the last step."
    )
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Of all steps.")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0, description="Not on norms, biases and embeddings.")
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    clip_grad_norm: float = Field(1.0, gt=0)


class TrainingStage(Settings):
    """What every training stage has. `init` and `data` name artifacts: an earlier stage, `corpus`, `splits/sft`, ..."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Unique in the recipe; `--set NAME.key=value` finds it by this.",
    )
    init: str | None = Field(
        None, description="The stage that leaves the starting model, or a model folder or hub name."
    )
    data: str
    epochs: float | None = Field(None, gt=0, description="Passes over the data; give this or steps.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps; give this or epochs.")
    batch_size: int = Field(32, ge=1, description="Examples a step over all ranks.")
    max_length: int = Field(
        128, ge=8, description="Tokens of one example at most; longer ones are cut or dropped, and counted."
    )
    optimizer: Optimizer = Optimizer()
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = Field(1, ge=0)
    checkpoint_steps: int = Field(
        50, ge=1, description="A resumable checkpoint every so many steps.", json_schema_extra=WHERE
    )
    eval_steps: int = Field(50, ge=1, description="Held-out figures every so many steps.")
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)


class PretrainStage(TrainingStage):
    kind: Literal["pretrain"] = "pretrain"
    data: str = "corpus"
    model: FreshModel = FreshModel()
    eval_share: float = Field(0.03, gt=0, lt=1, description="Share of documents held out, chosen by id.")


class SftStage(TrainingStage):
    kind: Literal["sft"] = "sft"
    data: str = "splits/sft"


class RewardStage(TrainingStage):
    kind: Literal["reward"] = "reward"
    data: str = "splits/reward"
    max_responses: int = Field(
        8, ge=2, description="K: responses of one prompt scored in one pass; all C(K,2) pairs count."
    )
    center_coef: float = Field(
        0.0, ge=0, description="Weight of the mean squared score sum, which keeps scores near 0."
    )


class PpoStage(TrainingStage):
    kind: Literal["ppo"] = "ppo"
    data: str = "splits/ppo"
    reward_model: str = Field(
        description="The stage that leaves the reward model, or a model folder or hub name."
    )
    value_init: str | None = Field(
        None, description="Starting weights of the value model; null = the reward model's."
    )
    steps: int = Field(40, ge=1, description="Iterations: one rollout batch and its updates each.")
    batch_size: int = Field(64, ge=1, description="Prompts of one rollout, over all ranks.")
    ppo_epochs: int = Field(1, ge=1)
    minibatches: int = Field(1, ge=1, description="Updates a PPO epoch.")
    max_prompt_length: int = Field(64, ge=4, description="Tokens; longer prompts are dropped and counted.")
    max_new_tokens: int = Field(32, ge=1)
    temperature: float = Field(1.0, gt=0, description="Of sampling, and of every log-probability.")
    kl_coef: float = Field(
        0.1, ge=0, description="Weight of the per-token KL in the reward (DeepSpeed-Chat: 0.1)."
    )
    clip_range: float = Field(0.2, gt=0)
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(
        1.0, ge=0, description="Value loss weight; the value model has an optimizer of its own."
    )
    gamma: float = Field(1.0, gt=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)
    reward_clip: float = Field(5.0, gt=0, description="Scores are clipped to +- this (DeepSpeed-Chat: 5).")
    missing_end_penalty: float = Field(
        1.0, ge=0, description="Taken off the score of an answer that does not end."
    )
    value_learning_rate: float = Field(5e-4, gt=0)
    reward_normalisation: Literal["none", "references"] = Field(
        "references",
        description="Scores are shifted and scaled so that the starting policy's answers have mean 0 and deviation 1 "
        "(Ziegler et al. 2019, lm-human-preferences).",
    )
    whiten_advantages: bool = Field(
        True, description="Over all response tokens of all ranks (OpenRLHF, TRL)."
    )
    eval_prompts: int = Field(
        64, ge=1, description="Held-out prompts answered before, during and after training."
    )


AnyStage = Annotated[PretrainStage | SftStage | RewardStage | PpoStage, Field(discriminator="kind")]


class TokenizerSettings(Settings):
    vocab_size: int = Field(2048, ge=300, description="Byte-level BPE, special tokens included.")
    min_frequency: int = Field(2, ge=1)


class EvaluationSettings(Settings):
    max_new_tokens: int = Field(40, ge=1)
    max_prompts: int = Field(200, ge=1, description="Held-out prompts for win rate and samples.")
    preferred_pattern: str | None = Field(
        None, description="Rule judge: a regular expression that a preferred answer matches."
    )
    samples: int = Field(8, ge=0, description="Side-by-side samples in the report.")
    seed: int = Field(1, ge=0)
    launch: Launch = Field(Launch(), json_schema_extra=WHERE)


class Job(Settings):
    """One launched job: what `python -m rlhf_core.train JOB.json` (under the deepspeed launcher) or `rlhf_core.evaluate` reads.

    `inputs` maps a role to a local folder or file:
    pretrain: `tokenizer` (from nothing) or `init` (continued), `data` (a corpus: documents/part-*.parquet);
    sft, reward: `init`, `data` (a folder with train.jsonl and eval.jsonl);
    ppo: `init`, `reward_model`, `data`, and `value_init` where it is not the reward model;
    evaluation: `KIND:NAME` for every training stage in the recipe's order (`ppo:ppo`), `questions` (a JSONL file of
    prompts with labels.reference, or of {"prompt", "answer"}), `splits` (the folder of {reward,ppo}/eval.jsonl).
    For models and tokenizers an artifact folder may stand for its model/ or tokenizer/, and a hub name for a folder.
    `output` becomes the artifact; `work` keeps checkpoints from one attempt to the next.
    """

    stage: AnyStage | EvaluationSettings
    inputs: dict[str, str]
    output: str
    work: str
