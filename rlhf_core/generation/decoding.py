"""One token after the other from a key-value cache.

`CacheDecoder` serves every causal language model through its own forward; small Llamas and OPTs have decoders of their own
(`small_decoding`): the same function with fewer, larger products. The tests hold all of them to the models' own logits.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch
from rlhf_core.generation import small
from rlhf_core.generation.llama_decoding import LlamaDecoder
from rlhf_core.generation.opt_decoding import OptDecoder
from rlhf_core.generation.small_decoding import SmallDecoder
from rlhf_core.job.errors import BadInput


def make_decoder(model: Any, max_new_tokens: int, width: int) -> CacheDecoder | SmallDecoder:
    """The fastest decoder that fits the plain Hugging Face model and prompts of so many tokens at most."""
    own = {"LlamaForCausalLM": LlamaDecoder, "OPTForCausalLM": OptDecoder}.get(type(model).__name__)
    return own(model, max_new_tokens) if own and small.family(model, width) else CacheDecoder(model, max_new_tokens)


class CacheDecoder:
    """Works with every causal language model of transformers that has a key-value cache; BadInput for one without (Mamba, RWKV):
    it would pass over the cache that it is given, and every token would be written as if it were the first."""

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        from transformers import DynamicCache

        if "past_key_values" not in inspect.signature(model.forward).parameters:
            raise BadInput(f"{type(model).__name__} keeps no keys and values: it can be trained on given texts, but not write answers here")
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
