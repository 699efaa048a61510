"""One token after the other from a key-value cache.

`CacheDecoder` serves every causal language model through its own forward; small Llamas and OPTs have decoders of their own
(`small_decoding`): the same function with fewer, larger products. The tests hold all of them to the models' own logits.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import PromptBatch, pad_left
from rlhf_core.generation import small
from rlhf_core.generation.llama_decoding import LlamaDecoder
from rlhf_core.generation.opt_decoding import OptDecoder
from rlhf_core.generation.small_decoding import SmallDecoder
from rlhf_core.job.errors import BadInput

_READ = 8  # tokens of a row by which a model's cache is tried
_STEPS_FP32, _STEPS_BF16 = 1e-3, 0.05  # how far they may lie apart, in deviations of the log-probabilities: rounding is 1e-5 and 0.01


def make_decoder(model: Any, max_new_tokens: int, width: int) -> CacheDecoder | SmallDecoder:
    """The fastest decoder that fits the plain Hugging Face model and prompts of so many tokens at most."""
    own = {"LlamaForCausalLM": LlamaDecoder, "OPTForCausalLM": OptDecoder}.get(type(model).__name__)
    return own(model, max_new_tokens) if own and small.family(model, width) else CacheDecoder(model, max_new_tokens)


class CacheDecoder:
    """Works with every causal language model of transformers that has a key-value cache; BadInput for one without (Mamba, RWKV):
    it would pass over the cache that it is given, and every token would be written as if it were the first. BadInput also for one
    that goes on otherwise from its cache than it reads the whole; each model is asked once."""

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        from transformers import DynamicCache

        if "past_key_values" not in inspect.signature(model.forward).parameters:
            raise BadInput(f"{type(model).__name__} keeps no keys and values: it can be trained on given texts, but not write answers here")
        self.model, self.cache = model, DynamicCache(config=model.config)
        if not getattr(model, "goes_on_as_it_reads", False):
            model.goes_on_as_it_reads = True
            _check_steps(model)

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


@torch.no_grad()
def _check_steps(model: Any) -> None:
    """BadInput where a short row written token by token, padded or not, gets other probabilities than read at once: a recurrent
    state that takes padding in (RecurrentGemma) would give every answer in a batch wrong ones."""
    device, tokens = next(model.parameters()).device, model.get_input_embeddings().num_embeddings
    rows = (torch.arange(2 * _READ, device=device) * 7 + 3).remainder(tokens).view(2, _READ)
    whole = model(input_ids=rows, use_cache=False).logits.float().log_softmax(-1)
    decoder, begun = CacheDecoder(model, _READ), (2, 4)
    said = [decoder.prefill(pad_left([row[:length].tolist() for row, length in zip(rows, begun, strict=True)], 0).to(device))]
    for step in range(_READ - max(begun)):
        said.append(decoder.advance(torch.stack([row[length + step] for row, length in zip(rows, begun, strict=True)])))
    found = torch.stack(said, dim=1).float().log_softmax(-1)
    read = torch.stack([row[length - 1 : length - 1 + len(said)] for row, length in zip(whole, begun, strict=True)])
    # Of a row the median: in 16 bits a mixture may send a token or two to another expert.
    away = ((found - read).square().mean(-1).sqrt() / read.std(-1).clamp(min=1e-6)).median(dim=1).values
    if float(away.max()) > (_STEPS_FP32 if model.dtype == torch.float32 else _STEPS_BF16):
        model.goes_on_as_it_reads = False
        raise BadInput(
            f"{type(model).__name__} gives other probabilities to tokens written one by one than to those read at once: it can be trained on "
            "given texts, but not write answers here"
        )
