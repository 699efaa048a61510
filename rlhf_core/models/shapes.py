"""The shape of a decoder, and what follows from it: parameters, adapter parameters, activations, caches. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import FreshModel, Lora


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder: gated feed-forward of three matrices, root-mean-square norms.

    inner         width of the feed-forward that every token passes; of a mixture of experts, that of the shared ones
    head_width    where it is not hidden / heads
    experts       of a block, beside that feed-forward; a token passes `active` of them, each `expert_inner` wide
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool
    head_width: int | None = None
    experts: int = 0
    active: int = 0
    expert_inner: int = 0

    @property
    def q_width(self) -> int:
        return (self.head_width or self.hidden // self.heads) * self.heads

    @property
    def kv_width(self) -> int:
        return (self.head_width or self.hidden // self.heads) * self.kv_heads

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (inputs, outputs). Experts are none: transformers holds all of a block as one."""
        h, q, kv, inner = self.hidden, self.q_width, self.kv_width, self.inner
        return {
            "q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h), "gate_proj": (h, inner),
            "up_proj": (h, inner), "down_proj": (inner, h),
        }  # fmt: skip

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Biases of the attention (some hundred thousand where a model has them) left out."""
        block = sum(rows * columns for rows, columns in self.matrices.values()) + 2 * self.hidden
        block += self.experts * self.hidden * (3 * self.expert_inner + 1)  # and the router
        return self.embeddings + self.layers * block + self.hidden

    def trained(self, lora: Lora | None) -> int:
        """Parameters that an optimizer holds."""
        if lora is None or lora.from_share:
            return self.parameters
        chosen = [size for name, size in self.matrices.items() if not lora.modules or name in lora.modules]
        adapters = self.layers * sum(lora.rank * (rows + columns) for rows, columns in chosen)
        return adapters if lora.only else adapters + self.embeddings + (2 * self.layers + 1) * self.hidden

    def block_activations(self) -> int:
        """Numbers that one block keeps for its backward pass, a token: what autograd saves of Llama's forward with fused
        attention (Korthikanti et al. 2022, section 4, counts the same for GPT): both norms' inputs, normed values and
        outputs; queries, keys and values before and after the rotation; attention's output; the feed-forward's gate,
        its activation, up, and their product."""
        inner = self.inner + self.active * self.expert_inner
        return 6 * self.hidden + 3 * self.q_width + 4 * self.kv_width + 4 * inner


# Published shapes (config.json of each), so that a plan needs neither network nor download.
KNOWN = {
    "Qwen/Qwen2.5-0.5B": Shape(896, 24, 14, 2, 4864, 151936, True),
    "Qwen/Qwen2.5-1.5B": Shape(1536, 28, 12, 2, 8960, 151936, True),
    "Qwen/Qwen2.5-3B": Shape(2048, 36, 16, 2, 11008, 151936, True),
    "Qwen/Qwen2.5-7B": Shape(3584, 28, 28, 4, 18944, 152064, False),
    "Qwen/Qwen2.5-14B": Shape(5120, 48, 40, 8, 13824, 152064, False),
    "Qwen/Qwen2.5-32B": Shape(5120, 64, 40, 8, 27648, 152064, False),
    "Qwen/Qwen2.5-72B": Shape(8192, 80, 64, 8, 29568, 152064, False),
}


def fresh(model: FreshModel, vocabulary: int) -> Shape:
    inner = model.intermediate_size or -(-model.hidden_size * 8 // 3 // 32) * 32
    if model.positions == "alibi":
        inner = (model.intermediate_size or 4 * model.hidden_size) * 2 // 3  # as of_config has it
    kv_heads = model.kv_heads or model.heads
    return Shape(
        model.hidden_size, model.layers, model.heads, kv_heads, inner, vocabulary, model.tie_embeddings
    )


def named(source: str) -> Shape:
    """The shape of a model folder, of a known hub name, or of one whose config.json is in the local hub cache."""
    known = KNOWN.get(source.removesuffix("-Instruct"))
    if known:
        return known
    files = [folder / "config.json" for folder in (Path(source), Path(source) / "model")]
    file = next((file for file in files if file.is_file()), None)
    try:
        if file is None:
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(source, "config.json"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the shape of {source} is not known: no folder, and not to be had from the hub ({error})"
        ) from error
    try:
        config = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{file} is no model's configuration: {error}") from error
    return of_config(source, config)


def of_config(source: str, config: dict[str, Any]) -> Shape:
    """From a config.json. Raises BadInput that names `source` where it says too little."""

    def first(*names: str, default: Any = None) -> Any:
        return next((config[name] for name in names if config.get(name)), default)

    hidden, layers = first("hidden_size", "n_embd", "d_model"), first("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = first("num_attention_heads", "n_head", "n_heads", "num_heads")
    if not all(isinstance(value, int) for value in (hidden, layers, heads, config.get("vocab_size"))):
        raise BadInput(
            f"{source}: its config.json names no hidden_size, num_hidden_layers, num_attention_heads and vocab_size"
        )
    if other := [key for key in config if key.startswith(_OTHER_BLOCKS)]:
        raise BadInput(f"{source}: blocks with {', '.join(sorted(other))} cannot be planned: attention and feed-forward alone can")
    inner = first("ffn_hidden_size", "ffn_dim", "n_inner", "intermediate_size", default=4 * hidden)
    if config.get("model_type") in _TWO_MATRICES:
        inner = inner * 2 // 3  # two matrices of this width are three of two thirds of it
    kv_heads = first("num_key_value_heads", "num_kv_heads", default=heads)
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        kv_heads = 1
    tied, head_width = bool(config.get("tie_word_embeddings", True)), first("head_dim", default=hidden // heads)
    shape = Shape(
        hidden, layers, heads, kv_heads, inner, config["vocab_size"], tied, None if head_width == hidden // heads else head_width
    )
    experts = first("num_local_experts", "num_experts", "n_routed_experts")
    if not experts:
        return shape
    width = first("moe_intermediate_size", default=inner)
    shared = first("shared_expert_intermediate_size", default=width * (first("n_shared_experts") or 0))
    return replace(shape, inner=shared, experts=experts, active=first("num_experts_per_tok", default=1), expert_inner=width)


# Feed-forwards without a gate.
_TWO_MATRICES = {
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron", "opt", "persimmon", "phi",
    "starcoder2",
}  # fmt: skip
_OTHER_BLOCKS = ("mamba_", "ssm_", "linear_num_", "kv_lora_rank", "lru_width")  # state spaces, linear and latent attention


def in_words(parameters: int) -> str:
    """As people name models: 0.49B, 1.05M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"
