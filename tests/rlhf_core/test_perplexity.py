"""The job that scores documents by a causal language model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_core.job.errors import BadInput
from rlhf_core.measures.likelihood import batches
from rlhf_core.perplexity import Scorer, score
from rlhf_core.settings import ScoringJob, ScoringSettings

TEXTS = ["the cat", "a", "", "the cat sat on the mat and was happy", "狐狸跳过了河", "the cat sat"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of width 16 with random weights over bytes."""
    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate([*alphabet, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(alphabet) + 1, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _job(model: Path, folder: Path, **settings: int) -> ScoringJob:
    chosen = ScoringSettings(model=str(model), **settings)  # type: ignore[arg-type]
    return ScoringJob(settings=chosen, model=str(model), documents=str(folder / "documents"), output=str(folder / "out"))


def _by_hand(model: Path, text: str, tokens: int) -> float:
    """Alone, without padding: the sum of the tokens' log-probabilities."""
    network = LlamaForCausalLM.from_pretrained(model).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]
    with torch.no_grad():
        logits = network(torch.tensor([[tokenizer.eos_token_id, *ids[:-1]]])).logits[0]
    nats = -sum(float(row[token]) for row, token in zip(logits.log_softmax(-1), ids, strict=True))
    return nats / math.log(2) / len(tokenizer.decode(ids))


def test_bits_per_character_by_hand_and_padding_changes_nothing(model: Path, tmp_path: Path) -> None:
    scorer = Scorer(_job(model, tmp_path, batch_tokens=4096), torch.device("cpu"))
    together = scorer.bits_per_character(TEXTS)
    assert together[2] is None
    for text, bits in zip(TEXTS, together, strict=True):
        if bits is not None:
            assert bits == pytest.approx(_by_hand(model, text, 1000), abs=2e-4)
    apart = Scorer(_job(model, tmp_path, batch_tokens=64), torch.device("cpu")).bits_per_character(TEXTS)
    assert apart == pytest.approx(together, abs=2e-4)


def test_long_texts_are_scored_from_their_beginning(model: Path, tmp_path: Path) -> None:
    text = "the cat sat on the mat " * 20
    for settings, tokens in (({"max_tokens": 20}, 20), ({}, 63)):  # 64 positions, one for the start
        [bits] = Scorer(_job(model, tmp_path, **settings), torch.device("cpu")).bits_per_character([text])
        assert bits == pytest.approx(_by_hand(model, text, tokens), abs=2e-4)


def test_batches_bound_what_is_scored_at_once() -> None:
    found = list(batches([4, 1, 10, 4, 201, 2], 20))
    assert found == [[4], [2, 0], [3, 5]]  # 201, 2 x 10 and 2 x 4 tokens; a start alone is in none


def test_job_leaves_a_label_shard_for_each_shard_and_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    for index in range(2):
        table = pa.table({"id": [f"{index}-{n}" for n in range(len(TEXTS))], "text": TEXTS})
        pq.write_table(table, tmp_path / "documents" / f"part-{index:05d}.parquet")
    job = _job(model, tmp_path)
    score(job)
    shards = sorted((tmp_path / "out" / "labels").iterdir())
    assert [shard.name for shard in shards] == ["part-00000.parquet", "part-00001.parquet"]
    rows = pq.read_table(shards[1]).to_pylist()
    assert [row["id"] for row in rows] == [f"1-{n}" for n in range(len(TEXTS))] and rows[2]["model_bits_per_character"] is None
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": 2.0, "steps": 2}
    before = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    score(job)
    assert shards[1].exists() and shards[0].stat().st_mtime_ns == before


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no tokenizer can be read"):
        Scorer(_job(tmp_path, tmp_path), torch.device("cpu"))
    with pytest.raises(BadInput, match="no documents"):
        score(_job(tmp_path, tmp_path))
