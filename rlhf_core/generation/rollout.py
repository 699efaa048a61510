"""Generation for every stage that needs it: a batched decode with a key-value cache, sampled or greedy.

Randomness comes in as a table of uniform numbers, one per row and token, so that a row's answer does not depend on
the batch it is in, on the number of ranks, or on which rows ended earlier. The response mask is made here, while the
tokens are: True for every generated token, the end token included.

An answer ends with the end token, and is cut where the model goes on with a role mark (it would write the next
question itself): the mark counts, since choosing it was the policy's own doing, but the answer is not finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_core.dataset.batches import TokenBatch, pad_left, pad_right
from rlhf_core.dataset.chat_template import Chat, Tokens
from rlhf_core.generation.decoding import make_decoder


@dataclass(frozen=True)
class Rollout:
    """Answers to B prompts, at most T tokens each.

    prompts        the prompts as lists of token ids
    response_ids   (B, T) int64, right-padded with the pad token
    response_mask  (B, T) bool, True = generated (the end token too)
    logprobs       (B, T) float32, nats, of the drawn tokens at the sampling temperature; 0 outside the mask
    finished       (B,) bool, True = ended with the end token within T tokens
    """

    prompts: list[list[int]]
    response_ids: Tensor
    response_mask: Tensor
    logprobs: Tensor
    finished: Tensor

    @property
    def lengths(self) -> Tensor:
        return self.response_mask.sum(dim=1)

    def responses(self) -> list[list[int]]:
        """Generated ids of each row, end token included."""
        rows, lengths = self.response_ids.tolist(), self.lengths.tolist()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def shortened(self, lengths: Tensor, pad_id: int) -> Rollout:
        """At most lengths (B,) tokens of each row; what was cut did not finish."""
        places = torch.arange(self.response_mask.shape[1], device=self.response_mask.device)
        mask = self.response_mask & (places < lengths.unsqueeze(1))
        return Rollout(
            self.prompts,
            torch.where(mask, self.response_ids, pad_id),
            mask,
            torch.where(mask, self.logprobs, 0.0),
            self.finished & (lengths >= self.lengths),
        )

    def sequences(self, pad_id: int) -> TokenBatch:
        """Prompt and answer of each row, right-padded on the CPU; the answer counts."""
        rows = zip(self.prompts, self.responses(), strict=True)
        return pad_right([Tokens(p + r, [False] * len(p) + [True] * len(r)) for p, r in rows], pad_id)


def noise(seed: int, step: int, rows: int, max_new_tokens: int) -> Tensor:
    """The uniform numbers of one rollout over all ranks: (rows, max_new_tokens) float64 in [0, 1)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    return torch.rand(rows, max_new_tokens, generator=generator, dtype=torch.float64)


@torch.no_grad()
def generate(
    model: Any,
    chat: Chat,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    uniforms: Tensor | None = None,
) -> Rollout:
    """Continue `prompts` with the plain Hugging Face model `model`.

    uniforms (B, T) in [0, 1): draw each token where the cumulated probabilities pass its number; None: greedy.
    No top-k, top-p or least length: they would make the log-probabilities those of another policy. Rows of the model that are
    no token (many are padded to a round number) are never drawn; untrained as they are, next to nothing is lost to them.
    """
    device = next(model.parameters()).device
    batch = pad_left(prompts, chat.pad_id)
    count = len(prompts)
    ids = torch.full((count, max_new_tokens), chat.pad_id, dtype=torch.int64, device=device)
    chances = torch.ones((count, max_new_tokens), dtype=torch.float32, device=device)  # of the drawn tokens
    if uniforms is not None:
        uniforms = uniforms.to(device)
    decoder = make_decoder(model, max_new_tokens, batch.input_ids.shape[1])
    rows = torch.arange(count, device=device)  # rows that the decoder has; some of them may have ended
    going = torch.ones(count, dtype=torch.bool, device=device)
    logits = decoder.prefill(batch.to(device))
    stops = stop_tokens(chat, device)
    for t in range(max_new_tokens):
        p = probabilities(logits, temperature)
        tokens = p[:, : len(stops)]
        drawn = tokens.argmax(dim=-1) if uniforms is None else draw(tokens, uniforms[rows, t])
        ids[rows, t] = drawn
        chances[rows, t] = p.gather(1, drawn.unsqueeze(1)).squeeze(1)
        if t + 1 == max_new_tokens:
            break
        going = going & ~stops[drawn]
        # Dropping ended rows costs a copy of the cache; ending rows in bunches of an eighth pays for it.
        left = int(going.sum())
        if left == 0:
            break
        if left <= len(rows) * 7 // 8 or left < len(rows) <= 8:
            chosen = torch.nonzero(going).squeeze(1)
            decoder.keep(chosen)
            rows, drawn, going = rows[chosen], drawn[chosen], going[chosen]
        logits = decoder.advance(drawn)
    stopped = stops[ids]  # behind an ended row's last token there may stand anything
    first = torch.where(stopped.any(1), stopped.int().argmax(1), max_new_tokens - 1)
    mask = torch.arange(max_new_tokens, device=device).unsqueeze(0) <= first.unsqueeze(1)
    finished = ((ids == chat.end_id) & mask).any(1)
    ids = torch.where(mask, ids, chat.pad_id)
    logprobs = torch.where(mask, chances.log(), 0.0)
    return Rollout(prompts, ids, mask, logprobs, finished)


def stop_ids(chat: Chat) -> list[int]:
    """The tokens after which nothing more is written: the end token and every role mark."""
    return sorted({chat.end_id, *chat.tokenizer.all_special_ids} - {chat.pad_id})


def from_answers(
    prompts: list[list[int]], answers: list[list[int]], limit: int, chat: Chat, device: torch.device
) -> Rollout:
    """A rollout from token ids that were written elsewhere, at most `limit` an answer: cut behind the first stop token,
    with log-probabilities of 0, which whoever knows the policy replaces."""
    stops = set(stop_ids(chat))
    ids = torch.full((len(answers), limit), chat.pad_id, dtype=torch.int64)
    mask = torch.zeros(len(answers), limit, dtype=torch.bool)
    for row, answer in enumerate(answers):
        length = next((place for place, token in enumerate(answer, 1) if token in stops), len(answer))
        ids[row, :length] = torch.tensor(answer[:length])
        mask[row, :length] = True
    finished = ((ids == chat.end_id) & mask).any(1)
    logprobs = torch.zeros(ids.shape, device=device)
    return Rollout(prompts, ids.to(device), mask.to(device), logprobs, finished.to(device))


def stop_tokens(chat: Chat, device: torch.device) -> Tensor:
    """(V,) bool, `stop_ids` as a table of all tokens of the vocabulary."""
    stops = torch.zeros(chat.vocab_size, dtype=torch.bool)
    stops[stop_ids(chat)] = True
    return stops.to(device)


def cut_at_marks(rollout: Rollout, chat: Chat, marks: list[str]) -> Rollout:
    """Cut each answer behind the first token with which its text holds one of `marks` (role marks in plain text)."""
    if not marks:
        return rollout
    lengths = rollout.lengths.tolist()
    for row, ids in enumerate(rollout.responses()):
        if _first_mark(chat, ids, marks):
            # the shortest beginning that holds a mark: its length, found by halves
            low, high = 1, len(ids)
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if _first_mark(chat, ids[:middle], marks) else (middle + 1, high)
            lengths[row] = low
    return rollout.shortened(torch.tensor(lengths, device=rollout.response_mask.device), chat.pad_id)


def _first_mark(chat: Chat, ids: list[int], marks: list[str]) -> bool:
    text = chat.tokenizer.decode(ids, skip_special_tokens=True)
    return any(mark in text for mark in marks)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature): (B, V) -> (B, V) float32."""
    wide = logits.float()
    return torch.softmax(wide if temperature == 1.0 else wide / temperature, dim=-1)


def draw(p: Tensor, uniforms: Tensor) -> Tensor:
    """One token a row by inverse cumulated probability: p (B, V), which need not add up to 1, uniforms (B,) in [0, 1) -> (B,) int64.

    The block of tokens first, then the token in it: of a vocabulary only one block is cumulated in float64. A row of NaN gives
    any token: the loss, which is NaN as well, is what stops the training.
    """
    rows, words = p.shape
    if words % _BLOCK:
        p = F.pad(p, (0, -words % _BLOCK))
    blocks = p.view(rows, -1, _BLOCK)
    ends = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    last = ends[:, -1:]
    # A product with what is below 1 may round up to the sum itself, behind the last token of any probability.
    threshold = torch.minimum(uniforms.unsqueeze(1) * last, last * _BELOW)
    block = torch.searchsorted(ends, threshold, right=True).clamp(max=ends.shape[1] - 1)
    inside = blocks[torch.arange(rows, device=p.device), block.squeeze(1)].cumsum(-1, dtype=torch.float64)
    rest = torch.minimum(threshold - F.pad(ends, (1, 0)).gather(1, block), inside[:, -1:] * _BELOW)
    token = block * _BLOCK + torch.searchsorted(inside, rest, right=True)
    return token.squeeze(1).clamp(max=words - 1)


_BLOCK = 64
_BELOW = 1 - 2**-53
