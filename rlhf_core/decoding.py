"""One token after the other from a key-value cache: any Hugging Face model, through its own forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlhf_core.batches import PromptBatch


class CacheDecoder:
    """Works with every causal language model of transformers."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model, self.cache = model, DynamicCache(config=model.config)

    def prefill(self, prompts: PromptBatch) -> Tensor:
        self.mask = prompts.attention_mask.long()
        self.next_position = prompts.position_ids[:, -1:] + 1
        return self._forward(prompts.input_ids, prompts.position_ids)

    def advance(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        logits = self._forward(tokens.unsqueeze(1), self.next_position)
        self.next_position = self.next_position + 1
        return logits

    def keep(self, rows: Tensor) -> None:
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


def make_decoder(model: Any, max_new_tokens: int) -> Any:
    return CacheDecoder(model)
