from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from rlhf_core.settings import TokenizerSettings
from rlhf_core.vocabulary import SPECIAL_TOKENS, train_tokenizer

TEXTS = [("en", "The river runs through Orsk in 1843. " * 20), ("zh", "银梭河流过雾桥镇。" * 20)]


def shard(folder: Path, texts: list[tuple[str, str]]) -> Path:
    path = folder / "part-00000.parquet"
    pq.write_table(pa.table({"lang": [lang for lang, _ in texts], "text": [text for _, text in texts]}), path)
    return path


def test_every_text_comes_back_and_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = TokenizerSettings(vocab_size=320)
    summary = train_tokenizer([shard(tmp_path, TEXTS)], settings, tmp_path / "one")
    train_tokenizer([shard(tmp_path, TEXTS)], settings, tmp_path / "two")
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert summary["vocab_size"] <= 320
    assert set(summary["bytes_per_token"]) == {"en", "zh"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    for text in (*(text for _, text in TEXTS), "  \ttab, emoji 🦜 and\n\nnew lines  ", "né ø \x00"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_come_first_and_pad_is_not_the_end(tmp_path: Path) -> None:
    train_tokenizer([shard(tmp_path, TEXTS)], TokenizerSettings(vocab_size=300), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert len(tokenizer("1843")["input_ids"]) == 4


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text"):
        train_tokenizer([shard(tmp_path, [("en", "")])], TokenizerSettings(), tmp_path / "out")


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = "import sys, rlhf_core.vocabulary; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
