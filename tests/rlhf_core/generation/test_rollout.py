from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.dataset.batches import PromptBatch
from rlhf_core.dataset.chat_template import Chat, load_chat
from rlhf_core.generation import small
from rlhf_core.generation.decoding import CacheDecoder, LlamaDecoder, OptDecoder, make_decoder
from rlhf_core.generation.rollout import cut_at_marks, draw, generate, noise
from rlhf_core.job.errors import BadInput
from rlhf_core.models.networks import PolicyModel, fresh_policy, selected_labels
from rlhf_core.settings import FreshModel

PROMPTS = [[5, 9, 12, 7, 30, 41], [8], [5, 77, 13], [61, 5]]


@pytest.fixture(scope="module")
def chat(world: Path) -> Chat:
    return load_chat(str(world / "tokenizer"))


@pytest.fixture(scope="module")
def policy(chat: Chat) -> PolicyModel:
    """A fresh model, its weights made large enough for uneven probabilities, which ends now and then."""
    policy = fresh_policy(
        FreshModel(hidden_size=32, layers=2, heads=4, kv_heads=2, tie_embeddings=False), chat, 1
    )
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return policy.eval()


@pytest.fixture(scope="module")
def opt(chat: Chat) -> PolicyModel:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(2)
    config = OPTConfig(
        vocab_size=chat.vocab_size, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=2, num_attention_heads=4,
        ffn_dim=64, max_position_embeddings=64, pad_token_id=chat.pad_id, bos_token_id=None, eos_token_id=chat.end_id,
        dropout=0.0,
    )  # fmt: skip
    model = PolicyModel(OPTForCausalLM(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


def by_hand(policy: PolicyModel, prompt: list[int], uniforms: Any, temperature: float, end: int) -> list[int]:
    """One row alone, without cache or padding: the whole sequence through the model for every token."""
    ids = list(prompt)
    for t in range(uniforms.shape[0] if uniforms is not None else 10):
        logits = policy.model(torch.tensor([ids])).logits[0, -1] / temperature
        logprobs = torch.log_softmax(logits, -1)
        token = int(logprobs.argmax()) if uniforms is None else int(draw(logprobs[None].exp(), uniforms[t : t + 1]))
        ids.append(token)
        if token == end:
            break
    return ids[len(prompt) :]


def test_rows_of_the_model_that_are_no_token_are_never_drawn(policy: PolicyModel, chat: Chat) -> None:
    """As many models have: here of more probability than all tokens together. What the others have is what training sees."""
    wide = copy.deepcopy(policy)
    wide.model.resize_token_embeddings(chat.vocab_size + 37, mean_resizing=False)
    with torch.no_grad():
        wide.model.lm_head.weight[chat.vocab_size :] = 5 * wide.model.lm_head.weight[:37]
    for uniforms in (None, noise(3, 1, len(PROMPTS), 10)):
        rollout = generate(wide.model, chat, PROMPTS, 10, 1.3, uniforms)
        assert int(rollout.response_ids.max()) < chat.vocab_size
        batch = rollout.sequences(chat.pad_id)
        with torch.no_grad():
            said, _ = wide(batch.input_ids, *selected_labels(batch.input_ids, batch.response_mask), 1.3)
        assert torch.allclose(said, rollout.logprobs[rollout.response_mask], atol=1e-4)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(
    ("model", "decoder"),
    [("policy", CacheDecoder), ("policy", LlamaDecoder), ("opt", CacheDecoder), ("opt", OptDecoder)],
)
def test_left_padding_the_cache_and_ended_rows_change_nothing(
    model: str, decoder: Any, sampled: bool, chat: Chat, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = request.getfixturevalue(model)
    monkeypatch.setattr("rlhf_core.generation.rollout.make_decoder", lambda model, new, _: decoder(model, new))
    uniforms = noise(3, 1, len(PROMPTS), 10) if sampled else None
    rollout = generate(policy.model, chat, PROMPTS, 10, 1.3, uniforms)
    marks = set(chat.tokenizer.all_special_ids) - {chat.pad_id, chat.end_id}
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS):
            alone = by_hand(policy, prompt, uniforms[row] if uniforms is not None else None, 1.3, chat.end_id)
            first = next((i for i, token in enumerate(alone) if token in marks), len(alone) - 1)
            assert rollout.responses()[row] == alone[: first + 1]  # a role mark ends an answer, and counts


def test_a_small_llama_is_given_its_own_decoder(policy: PolicyModel) -> None:
    assert type(make_decoder(policy.model, 4, 8)) is LlamaDecoder
    assert type(make_decoder(policy.model, 4, small.SHORT + 1)) is CacheDecoder  # it would keep the square of the prompt


def test_a_small_opt_is_given_its_own_decoder(opt: PolicyModel) -> None:
    assert type(make_decoder(opt.model, 4, 8)) is OptDecoder


def test_a_model_without_keys_and_values_writes_no_answers(chat: Chat) -> None:
    """Mamba ignores the cache of keys and values: it wrote every token as if it were the first."""
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=chat.vocab_size, hidden_size=32, num_hidden_layers=1, state_size=4))
    with pytest.raises(BadInput, match="MambaForCausalLM keeps no keys and values"):
        generate(model, chat, PROMPTS, 4, 1.0, None)


def test_a_model_whose_state_takes_padding_in_writes_no_answers(chat: Chat) -> None:
    """RecurrentGemma wrote with log-probabilities that were a quarter of a nat off; Jamba's state is kept from padding."""
    from transformers import JambaConfig, JambaForCausalLM, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    small: Any = {"vocab_size": chat.vocab_size, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    torch.manual_seed(0)
    model = RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**small, lru_width=32, attention_window_size=6)).eval()
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    for _ in range(2):
        with pytest.raises(BadInput, match="RecurrentGemmaForCausalLM gives other probabilities to tokens written one by one"):
            generate(model, chat, PROMPTS, 4, 1.0, None)
    jamba: Any = {"num_key_value_heads": 4, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "use_mamba_kernels": False}
    model = JambaForCausalLM(JambaConfig(**small, **jamba)).eval()
    assert len(generate(model, chat, PROMPTS, 4, 1.0, None).responses()) == len(PROMPTS)


def test_an_answer_ends_at_a_role_mark_unfinished(policy: PolicyModel, chat: Chat) -> None:
    """The head is bent so that the greedy third token is a role mark."""
    user = chat.tokenizer.convert_tokens_to_ids("<|user|>")
    plain = generate(policy.model, chat, PROMPTS, 10)
    head, weight = policy.model.lm_head, policy.model.lm_head.weight.data.clone()
    third = plain.responses()[0][2]
    head.weight.data[user] = head.weight.data[third] * 2
    try:
        row = generate(policy.model, chat, PROMPTS[:1], 10)
    finally:
        head.weight.data = weight
    answer = row.responses()[0]
    assert answer[-1] == user
    assert len(answer) <= 3
    assert row.finished.tolist() == [False]


def test_marks_in_plain_text_cut_an_answer(policy: PolicyModel, chat: Chat) -> None:
    rollout = generate(policy.model, chat, PROMPTS, 10, 1.0, noise(3, 1, 4, 10))
    texts = [chat.tokenizer.decode(ids, skip_special_tokens=True) for ids in rollout.responses()]
    mark = chat.tokenizer.decode(rollout.responses()[0][3:5], skip_special_tokens=True)
    cut = cut_at_marks(rollout, chat, [mark])
    for row, (before, after) in enumerate(zip(texts, cut.responses(), strict=True)):
        if mark in before:
            text = chat.tokenizer.decode(after, skip_special_tokens=True)
            assert mark in text
            assert mark not in chat.tokenizer.decode(after[:-1], skip_special_tokens=True)
            assert chat.decode(after, [mark]) == before[: before.index(mark)].strip()
        else:
            assert after == rollout.responses()[row]
    assert len(cut.responses()[0]) <= 5
    assert not bool(cut.finished[0])
    assert bool((cut.logprobs[~cut.response_mask] == 0).all())
    assert cut_at_marks(rollout, chat, []) is rollout


def test_a_row_does_not_depend_on_its_batch(policy: PolicyModel, chat: Chat) -> None:
    uniforms = noise(5, 1, 40, 16)
    prompts = [PROMPTS[i % 4] for i in range(40)]
    together = generate(policy.model, chat, prompts, 16, 1.0, uniforms).responses()
    half = generate(policy.model, chat, prompts[1::2], 16, 1.0, uniforms[1::2]).responses()
    assert together[1::2] == half


class Scripted:
    """A decoder whose row r ends with its token r; `asked` notes of how many rows each further token was asked."""

    def __init__(self, chat: Chat, asked: list[int]) -> None:
        self.chat, self.asked, self.written = chat, asked, 0

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        self.rows = torch.arange(len(prompts.input_ids))
        return self._logits()

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(tokens))
        self.written += 1
        return self._logits()

    def keep(self, rows: torch.Tensor) -> None:
        self.rows = self.rows[rows]

    def _logits(self) -> torch.Tensor:
        said = torch.where(self.rows == self.written, self.chat.end_id, 9)
        return torch.nn.functional.one_hot(said, self.chat.vocab_size).float()


def test_rows_that_end_one_by_one_are_dropped_and_nothing_is_written_behind_the_last_end(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("rlhf_core.generation.rollout.make_decoder", lambda *_: Scripted(chat, asked))
    rollout = generate(torch.nn.Linear(1, 1), chat, [[5]] * 24, 40)
    assert rollout.lengths.tolist() == list(range(1, 25))
    assert bool(rollout.finished.all())
    assert len(asked) == 23
    for left, rows in zip(range(23, 0, -1), asked, strict=True):
        assert left == rows or (rows > 8 and left > rows * 7 // 8)  # fewer than an eighth have ended


def test_sampling_logprobs_are_those_of_the_training_pass(policy: PolicyModel, chat: Chat) -> None:
    """Milder weights: under those of the fixture float32's own noise, transformers' too, is 1e-5 to 6e-5 (against float64)."""
    policy = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim == 2:
                parameter.div_(2)
    rollout = generate(policy.model, chat, PROMPTS, 10, 0.7, noise(3, 1, len(PROMPTS), 10))
    batch = rollout.sequences(chat.pad_id)
    select, labels = selected_labels(batch.input_ids, batch.response_mask)
    with torch.no_grad():
        again, _ = policy(batch.input_ids, select, labels, 0.7)
    assert torch.allclose(rollout.logprobs[rollout.response_mask], again, atol=1e-5)


def test_the_mask_holds_the_end_token_and_nothing_after_it(policy: PolicyModel, chat: Chat) -> None:
    prompts = [PROMPTS[i % 4] for i in range(64)]
    rollout = generate(policy.model, chat, prompts, 24, 3.0, noise(1, 1, 64, 24))
    ended = [ids[-1] == chat.end_id for ids in rollout.responses()]
    assert rollout.finished.tolist() == ended
    assert any(ended)
    for ids, mask in zip(rollout.responses(), rollout.response_mask.tolist(), strict=True):
        assert chat.end_id not in ids[:-1]
        assert mask == [True] * len(ids) + [False] * (24 - len(ids))
    assert bool((rollout.response_ids[~rollout.response_mask] == chat.pad_id).all())
    assert bool((rollout.logprobs[~rollout.response_mask] == 0).all())


def test_draw_follows_the_probabilities() -> None:
    p = torch.tensor([[0.1, 0.6, 0.3]])
    drawn = [
        int(draw(p, torch.tensor([u], dtype=torch.float64)))
        for u in (0.0, 0.09, 0.11, 0.69, 0.71, 0.999)
    ]
    assert drawn == [0, 0, 1, 1, 2, 2]
    counts = torch.bincount(draw(p.expand(20000, 3), noise(1, 1, 20000, 1)[:, 0]), minlength=3) / 20000
    assert torch.allclose(counts, torch.tensor([0.1, 0.6, 0.3]), atol=0.02)


def test_draw_from_what_is_no_number_is_a_token() -> None:
    drawn = draw(torch.tensor([[float("nan")] * 70, [1.0] + [0.0] * 69]), torch.tensor([0.5, 0.5]))
    assert 0 <= int(drawn[0]) < 70
    assert int(drawn[1]) == 0


def test_draw_across_blocks_of_the_vocabulary_is_the_plain_search() -> None:
    """150 tokens are three blocks, the last one padded; some tokens and a whole block are impossible."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(500, 150, generator=generator) * 4
    logits[:, 64:128] = float("-inf")
    logits[::2, 149] = logits[::3, 0] = float("-inf")
    logprobs = logits.log_softmax(-1)
    uniforms = torch.rand(500, generator=generator, dtype=torch.float64)
    uniforms[:9], uniforms[9:20] = 0.0, 1 - 2**-53
    drawn = draw(logprobs.exp(), uniforms)
    cumulated = logprobs.double().exp().cumsum(-1)
    plain = torch.searchsorted(cumulated, (uniforms * cumulated[:, -1]).unsqueeze(1), right=True).squeeze(1)
    assert drawn[:9].tolist() == plain[:9].tolist()
    assert drawn[20:].tolist() == plain[20:].tolist()
    assert bool((logprobs.gather(1, drawn.unsqueeze(1)) > float("-inf")).all())
