"""Held-out text by a real network: windows against one token at a time, and two tokenizers of one model."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf_core.evaluation.language_model import Text, score, summarise
from rlhf_core.models.networks import PolicyModel
from tests.rlhf_core.evaluation.test_knowledge import byte_tokenizer, llama

TEXT = "The Silverrun flows through 银溪 and on to the sea."


@pytest.mark.parametrize(("window", "stride"), [(512, 256), (16, 8), (16, 15), (5, 1), (2, 1)])
def test_strided_windows_are_the_sum_of_single_predictions(window: int, stride: int) -> None:
    """Token `t` is read in the first window that reaches it: those end at `window`, `window + stride`, ..., and at the text's end."""
    tokenizer, model = byte_tokenizer([]), llama()
    start = tokenizer.eos_token_id
    [found] = score(PolicyModel(model), tokenizer, start, [Text("1", "en", TEXT)], window, stride, 64, torch.device("cpu"))
    stream = [start, *tokenizer(TEXT)["input_ids"]]
    total = 0.0
    for place in range(1, len(stream)):
        moves = max(0, math.ceil((place + 1 - window) / stride))
        end = min(window + moves * stride, len(stream))
        with torch.no_grad():
            logits = model(torch.tensor([stream[max(0, end - window) : place]])).logits[0, -1]
        total -= float(logits.log_softmax(-1)[stream[place]])
    assert (found.tokens, found.lossy) == (len(TEXT.encode()), False)
    assert found.nats == pytest.approx(total, rel=1e-5)


def test_a_uniform_model_costs_the_same_per_token_whatever_the_tokenizer() -> None:
    """By hand: every token of V costs log2 V bits, so fewer tokens are fewer bits a byte, while perplexity is V with both."""
    for merges in ([], [("T", "h"), ("Th", "e")]):
        tokenizer = byte_tokenizer(merges)
        model = llama(len(tokenizer))
        with torch.no_grad():
            model.lm_head.weight.zero_()
        scored = score(PolicyModel(model), tokenizer, tokenizer.eos_token_id, [Text("1", "en", TEXT)], 64, 32, 4096, torch.device("cpu"))
        size, tokens = len(TEXT.encode()), len(TEXT.encode()) - len(merges)
        figures = summarise(scored)["en"]
        assert figures["perplexity"] == pytest.approx(len(tokenizer), rel=1e-4)
        assert figures["bits_per_byte"] == pytest.approx(tokens * math.log2(len(tokenizer)) / size, rel=1e-5)
        assert figures["bits_per_character"] == pytest.approx(tokens * math.log2(len(tokenizer)) / len(TEXT), rel=1e-5)
