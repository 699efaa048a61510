"""What every training stage can be told: where it runs, what is trained and how, fresh models, vocabularies.

Plain types, no torch; `rlhf_core.settings` puts them together into stages. WHERE as there.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlhf_core.settings.alignment import Settings


class Launch(Settings):
    """Where a job runs. Nothing here may change its result beyond floating-point noise."""

    ranks: int = Field(1, ge=1, description="Processes on one node; one GPU each where there are some.")
    hostfile: str | None = Field(
        None,
        description="DeepSpeed hostfile for several nodes (lines `HOST slots=N`, reached by ssh without a password); "
        "it says how many ranks there are.",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        0,
        description="What is split over the ranks: nothing, optimizer states, gradients too, weights too "
        "(Rajbhandari et al. 2020).",
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        "none",
        description="Optimizer states (ZeRO 1 to 3), or parameters too (ZeRO 3), in host memory: slower, for what does "
        "not fit the card.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="Examples a rank takes at once, gradients accumulate over them; null = batch_size / ranks.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Keep one activation a layer and compute the rest again: a third more time."
    )
    attention: Literal["sdpa", "flash_attention_2", "eager"] = Field(
        "sdpa", description="Kernel of attention; an architecture without sdpa takes eager. flash_attention_2 needs its package, a GPU and bf16."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads a rank; null = cores / ranks.")
    launcher: Literal["auto", "deepspeed"] = Field(
        "auto",
        description="auto: on this machine's CPUs ranks are forks of a process that has imported everything (the first step comes "
        "ten seconds sooner), on GPUs and with a hostfile the `deepspeed` command; deepspeed: always the command.",
    )
    timeout_seconds: float = Field(86400.0, gt=0, description="The job is ended when it runs longer.")
    silence_seconds: float = Field(
        1800.0, gt=0, description="The job is ended when it reports no step for so long."
    )

    @model_validator(mode="after")
    def _offload_has_its_stage(self) -> Launch:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload: optimizer states are offloaded with zero_stage 1, 2 or 3")
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError("offload: parameters are offloaded with zero_stage 3 alone")
        return self


class FreshModel(Settings):
    """A model from nothing: Llama's architecture with rotary positions, Falcon's with ALiBi."""

    hidden_size: int = Field(128, ge=8, description="Width of the residual stream; a multiple of heads.")
    layers: int = Field(4, ge=1, description="Decoder blocks.")
    heads: int = Field(4, ge=1, description="Attention heads of a block.")
    kv_heads: int | None = Field(
        None,
        ge=1,
        description="Heads of keys and values: fewer than heads is grouped-query attention (Ainslie et al. 2023), 1 is "
        "multi-query (Shazeer 2019); null = heads.",
    )
    intermediate_size: int | None = Field(
        None, ge=8, description="Null = 8/3 of hidden_size, rounded up to 32 (ALiBi: 4 x hidden_size)."
    )
    context_length: int = Field(256, ge=16, description="Tokens.")
    init_std: float | None = Field(
        None,
        gt=0,
        description="Deviation of the first weights; null = sqrt(2 / (5 hidden_size)) (Nguyen & Salazar 2019), which is "
        "0.02 at width 1000 and more in narrow models, where 0.02 learns slowly.",
    )
    positions: Literal["rotary", "alibi"] = Field(
        "rotary", description="Su et al. 2021, or distance penalties on attention (Press et al. 2022)."
    )
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary positions (Llama: 10000).")
    tie_embeddings: bool = Field(
        True, description="Input and output embeddings are one matrix, as in most models below 1B."
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> FreshModel:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads {self.heads}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}")
        return self


class Lora(Settings):
    """Low-rank adapters instead of whole matrices (Hu et al. 2022). They are merged into the weights on saving."""

    rank: int = Field(128, ge=1, description="DeepSpeed-Chat: 128.")
    alpha: float | None = Field(
        None, gt=0, description="The product is scaled by alpha / rank; null = 2 x rank."
    )
    learning_rate: float = Field(
        1e-3,
        gt=0,
        description="Of the adapters: ten to a hundred times that of whole weights (DeepSpeed-Chat: 1e-3).",
    )
    only: bool = Field(
        True,
        description="Only adapters and new heads are trained; false: embeddings, norms, biases and heads too, at the "
        "optimizer's learning rate.",
    )
    modules: list[str] = Field(
        [],
        description="Last names of the linear layers that get adapters (q_proj, ...); none named = all but the head.",
    )
    from_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the steps in which all weights are trained before the adapters take over (not with ZeRO 3; "
        "there, write two stages).",
    )


class Optimizer(Settings):
    kind: Literal["adamw", "lamb"] = Field(
        "adamw",
        description="lamb (You et al. 2020) for batches of thousands; DeepSpeed has it on GPUs alone, and here it "
        "goes with zero_stage 0 and fp32.",
    )
    learning_rate: float = Field(5e-4, gt=0, description="The highest, after the warm-up; what suits depends on the model's size.")
    min_learning_rate_share: float = Field(
        0.1, ge=0, le=1, description="Of learning_rate, reached at the last step."
    )
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Of all steps.")
    schedule: Literal["cosine", "linear", "constant", "wsd", "wcsd"] = Field(
        "cosine",
        description="After the warm-up: down to the minimum as a cosine or a line; constant; wsd: stable, then decay (Hu et "
        "al. 2024, MiniCPM); wcsd: a cosine down to stable_share, stable there, then decay.",
    )
    decay_share: float = Field(
        0.1, gt=0, lt=1, description="wsd, wcsd: share of all steps in the decay (MiniCPM: 10% is enough)."
    )
    cosine_share: float = Field(
        0.3, gt=0, lt=1, description="wcsd: share of all steps in the cosine before the stable part."
    )
    stable_share: float = Field(
        0.5, gt=0, le=1, description="wcsd: share of learning_rate in the stable part."
    )
    rewarm_at: list[float] = Field(
        [],
        description="Shares of the steps at which the schedule starts anew, warm-up and all: where the corpus changes "
        "(Ibrahim et al. 2024). The warm-up then begins at the minimum.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Not on norms, biases and embeddings.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Of Adam's two averages (GPT-3, Llama: 0.9, 0.95).")
    eps: float = Field(1e-8, gt=0, description="Added to Adam's denominator.")
    clip_grad_norm: float = Field(1.0, gt=0, description="Largest norm of a step's whole gradient.")
    lora: Lora | None = Field(None, description="Train adapters; null = all weights.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Optimizer:
        if self.rewarm_at != sorted(set(self.rewarm_at)) or any(
            not 0 < share < 1 for share in self.rewarm_at
        ):
            raise ValueError("rewarm_at: give rising shares between 0 and 1")
        used = self.warmup_share + self.decay_share + (self.cosine_share if self.schedule == "wcsd" else 0)
        if self.schedule in ("wsd", "wcsd") and used > 1:
            raise ValueError(
                f"schedule {self.schedule}: warm-up, cosine and decay are {used:g} of the steps, more than all"
            )
        if self.kind == "lamb" and self.lora:
            raise ValueError("kind: lamb is for whole weights; with lora use adamw")
        return self


class LengthGrouping(Settings):
    """What stages can be told whose batches hold examples of different lengths."""

    length_grouping: bool = Field(False, description="Batches of examples of about one length: less padding, less chance.")


class TokenizerSettings(Settings):
    """The vocabulary that is learned from the corpus, or a given one that grows by it."""

    vocab_size: int = Field(
        2048, ge=300, description="Special tokens included. Extending: of the extended vocabulary."
    )
    min_frequency: int = Field(2, ge=1, description="Times that two pieces must stand together to become one token.")
    kind: Literal["bpe", "wordpiece"] = Field(
        "bpe",
        description="Byte-level byte-pair encoding (Sennrich et al. 2016), or WordPiece over the same bytes (Schuster & "
        "Nakajima 2012). Every text comes back from either.",
    )
    extend: str | None = Field(
        None,
        description="A model or tokenizer (folder or hub name) with a BPE vocabulary, which goes on learning from this corpus: "
        "old tokens keep their ids, new ones follow.",
    )

    @model_validator(mode="after")
    def _bpe_is_extended(self) -> TokenizerSettings:
        if self.extend and self.kind != "bpe":
            raise ValueError("extend: only BPE vocabularies can be extended; leave kind at bpe")
        return self
