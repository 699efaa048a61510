"""One token after the other from a key-value cache.

`CacheDecoder` serves every causal language model through its own forward. For small models that costs more than the
arithmetic (about 4 ms a token on one core at width 128 and 4 layers), so small Llamas and OPTs have decoders of their
own (the Llamas' is in `llama_decoding`): the same function with fewer, larger products and a cache that never moves.
The tests hold all of them to the models' own logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch
from rlhf_core.generation import llama
from rlhf_core.generation.llama_decoding import LlamaDecoder


def make_decoder(model: Any, max_new_tokens: int, width: int) -> CacheDecoder | LlamaDecoder:
    """The fastest decoder that fits the plain Hugging Face model and prompts of so many tokens at most."""
    if type(model).__name__ == "LlamaForCausalLM" and width <= llama.SHORT and llama.is_plain(model.base_model):
        return LlamaDecoder(model, max_new_tokens)
    if _is_plain_opt(model):
        return OptDecoder(model, max_new_tokens)
    return CacheDecoder(model, max_new_tokens)


class CacheDecoder:
    """Works with every causal language model of transformers."""

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        from transformers import DynamicCache

        self.model, self.cache = model, DynamicCache(config=model.config)

    def prefill(self, prompts: PromptBatch) -> Tensor:
        """Read the prompts; logits (B, V) of each row's next token."""
        self.mask = prompts.attention_mask.long()
        self.next_position = prompts.position_ids[:, -1:] + 1
        return self._forward(prompts.input_ids, prompts.position_ids)

    def advance(self, tokens: Tensor) -> Tensor:
        """Append tokens (B,) and give the next logits (B, V)."""
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        logits = self._forward(tokens.unsqueeze(1), self.next_position)
        self.next_position = self.next_position + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (indices into the current ones) alone."""
        self.mask, self.next_position = self.mask[rows], self.next_position[rows]
        self.cache.batch_select_indices(rows)

    def _forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        output = self.model(
            input_ids=input_ids,
            attention_mask=self.mask,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


class FixedCacheDecoder(CacheDecoder):
    """A cache of the whole width from the start, which advancing fills in place.

    keys, values  per layer (B, kv heads, S, head size), S = prompt + new tokens
    seen          (B, 1, 1, S) bool, True = may be attended
    positions     (B,) of the next token
    """

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        super().__init__(model, max_new_tokens)
        self.max_new_tokens = max_new_tokens

    def prefill(self, prompts: PromptBatch) -> Tensor:
        logits = super().prefill(prompts)
        rows, self.filled = prompts.input_ids.shape
        width = self.filled + self.max_new_tokens
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        layers: Any = self.cache.layers
        for layer in layers:
            for kept, read in ((self.keys, layer.keys), (self.values, layer.values)):
                whole = read.new_zeros(rows, read.shape[1], width, read.shape[3])
                whole[:, :, : self.filled] = read
                kept.append(whole)
        self.seen = torch.ones(rows, 1, 1, width, dtype=torch.bool, device=logits.device)
        self.seen[:, 0, 0, : self.filled] = prompts.attention_mask
        self.positions = prompts.position_ids[:, -1] + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.seen, self.positions = self.seen[rows], self.positions[rows]


class OptDecoder(FixedCacheDecoder):
    """transformers' modeling_opt.py for one token a row: learned positions, norms before each block, ReLU."""

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        super().__init__(model, max_new_tokens)
        self.decoder, self.heads = model.model.decoder, model.config.num_attention_heads
        self.layers = [(layer, *_joined(layer.self_attn)) for layer in self.decoder.layers]

    def advance(self, tokens: Tensor) -> Tensor:
        rows, end = len(tokens), self.filled + 1
        places = self.decoder.embed_positions
        hidden = self.decoder.embed_tokens(tokens) + F.embedding(
            self.positions + places.offset, places.weight
        )
        seen = self.seen[..., :end]
        for i, (layer, weight, bias) in enumerate(self.layers):
            normed = _norm(hidden, layer.self_attn_layer_norm)
            heads = F.linear(normed, weight, bias).view(rows, 3, self.heads, -1)
            self.keys[i][:, :, self.filled] = heads[:, 1]
            self.values[i][:, :, self.filled] = heads[:, 2]
            keys, values = self.keys[i][:, :, :end], self.values[i][:, :, :end]
            query = heads[:, 0].unsqueeze(2)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
            out = layer.self_attn.out_proj
            hidden = hidden + F.linear(mixed.reshape(rows, -1), out.weight, out.bias)
            inner = F.relu(F.linear(_norm(hidden, layer.final_layer_norm), layer.fc1.weight, layer.fc1.bias))
            hidden = hidden + F.linear(inner, layer.fc2.weight, layer.fc2.bias)
        self.filled, self.positions = end, self.positions + 1
        return F.linear(_norm(hidden, self.decoder.final_layer_norm), self.model.lm_head.weight)


def _joined(attention: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of query, key and value as one product."""
    parts = [getattr(attention, f"{name}_proj") for name in "qkv"]
    return torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])


def _norm(hidden: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _is_plain_opt(model: Any) -> bool:
    """An OPT without what OptDecoder leaves out: norms behind the blocks, projected embeddings, other activations."""
    config = model.config
    return (
        type(model).__name__ == "OPTForCausalLM"
        and llama.is_small(model)
        and config.do_layer_norm_before
        and not config._remove_final_layer_norm
        and config.enable_bias
        and config.layer_norm_elementwise_affine
        and config.word_embed_proj_dim == config.hidden_size
        and config.activation_function == "relu"
    )
