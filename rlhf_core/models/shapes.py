"""The shape of a decoder, and what follows from it: parameters, adapter parameters, activations, caches. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import FreshModel, Lora


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder: gated feed-forward of three matrices, root-mean-square norms."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool

    @property
    def kv_width(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (inputs, outputs)."""
        h, kv, inner = self.hidden, self.kv_width, self.inner
        return {
            "q_proj": (h, h), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (h, h), "gate_proj": (h, inner),
            "up_proj": (h, inner), "down_proj": (inner, h),
        }  # fmt: skip

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Biases of the attention (some hundred thousand where a model has them) left out."""
        block = sum(rows * columns for rows, columns in self.matrices.values()) + 2 * self.hidden
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
        return 7 * self.hidden + 2 * (self.hidden + 2 * self.kv_width) + 4 * self.inner


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
    kv_heads = model.kv_heads or model.heads
    return Shape(
        model.hidden_size, model.layers, model.heads, kv_heads, inner, vocabulary, model.tie_embeddings
    )


def named(source: str) -> Shape:
    """The shape of a model folder, of a known hub name, or of one whose config.json is in the local hub cache."""
    known = KNOWN.get(source.removesuffix("-Instruct"))
    if known:
        return known
    for folder in (Path(source), Path(source) / "model"):
        if (folder / "config.json").is_file():
            return of_config(source, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    try:
        from huggingface_hub import hf_hub_download

        return of_config(
            source, json.loads(Path(hf_hub_download(source, "config.json")).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the shape of {source} is not known: no folder, and not to be had from the hub ({error})"
        ) from error


def of_config(source: str, config: dict[str, Any]) -> Shape:
    """From a config.json. Raises BadInput that names `source` where it says too little."""

    def first(*names: str, default: Any = None) -> Any:
        return next((config[name] for name in names if config.get(name)), default)

    hidden, layers = first("hidden_size", "n_embd"), first("num_hidden_layers", "n_layer")
    heads = first("num_attention_heads", "n_head")
    if not (hidden and layers and heads):
        raise BadInput(
            f"{source}: its config.json names no hidden_size, num_hidden_layers and num_attention_heads"
        )
    inner = first("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
    if inner is None or "ffn_hidden_size" in config or "ffn_dim" in config:
        inner = (inner or 4 * hidden) * 2 // 3  # two matrices of this width are three of two thirds of it
    kv_heads = first("num_key_value_heads", "num_kv_heads", default=heads)
    tied = bool(config.get("tie_word_embeddings", True))
    return Shape(
        int(hidden), int(layers), int(heads), int(kv_heads), int(inner), int(config["vocab_size"]), tied
    )


def in_words(parameters: int) -> str:
    """As people name models: 0.49B, 1.05M."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"
