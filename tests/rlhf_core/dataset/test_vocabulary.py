from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf_core.dataset.extension import extend
from rlhf_core.dataset.vocabulary import SPECIAL_TOKENS, train_tokenizer
from rlhf_core.job.errors import BadInput
from rlhf_core.settings import TokenizerSettings

TEXTS = [("en", "The river runs through Orsk in 1843. " * 20), ("zh", "银梭河流过雾桥镇。" * 20)]


def shard(folder: Path, texts: list[tuple[str, str]]) -> Path:
    path = folder / "part-00000.parquet"
    pq.write_table(pa.table({"lang": [lang for lang, _ in texts], "text": [text for _, text in texts]}), path)
    return path


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_every_text_comes_back_and_the_same_corpus_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    settings = TokenizerSettings(vocab_size=320 if kind == "bpe" else 620, kind=kind)
    summary = train_tokenizer([shard(tmp_path, TEXTS)], settings, tmp_path / "one")
    train_tokenizer([shard(tmp_path, TEXTS)], settings, tmp_path / "two")
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert summary["vocab_size"] <= settings.vocab_size
    assert set(summary["bytes_per_token"]) == {"en", "zh"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    for text in (*(text for _, text in TEXTS), "  \ttab, emoji 🦜 and\n\nnew lines  ", "né ø \x00", "a # ## ### →b"):
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
    code = "import sys, rlhf_core.dataset.vocabulary; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bpe_continued_by_hand() -> None:
    """"ab" is old. In "abc abc abd" the pair (ab, c) stands twice: it is the next token; (ab, d) once: too seldom."""
    old = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4}, [("a", "b")]))
    old.pre_tokenizer = pre_tokenizers.Whitespace()
    new = extend(old, ["abc abc abd"], vocab_size=99, min_frequency=2)
    assert new.get_vocab() == {"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4, "abc": 5}
    assert [new.encode(word).tokens for word in ("abc", "abd", "cab")] == [["abc"], ["ab", "d"], ["c", "ab"]]


def test_pairs_that_overlap_are_counted_as_they_are_merged() -> None:
    """"aaaa" is (aa)(aa) after the first merge, so the second is (aa, aa); "aaa" leaves (aa, a)."""
    old = Tokenizer(models.BPE({"a": 0}, []))
    old.pre_tokenizer = pre_tokenizers.Whitespace()
    new = extend(old, ["aaaa aaaa aaa"], vocab_size=99, min_frequency=1)
    assert [token for token, _ in sorted(new.get_vocab().items(), key=lambda item: item[1])] == ["a", "aa", "aaaa", "aaa"]


def test_an_extended_vocabulary_keeps_old_ids_and_writes_the_new_corpus_shorter(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    train_tokenizer([shard(tmp_path / "old", TEXTS[:1])], TokenizerSettings(vocab_size=300), tmp_path / "base")
    corpus = [shard(tmp_path / "new", TEXTS[1:])]
    summary = train_tokenizer(corpus, TokenizerSettings(vocab_size=330, extend=str(tmp_path / "base")), tmp_path / "out")
    base, extended = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("base", "out"))
    assert 0 < summary["new_tokens"] == len(extended) - len(base)
    assert all(extended.get_vocab()[token] == number for token, number in base.get_vocab().items())
    zh = TEXTS[1][1]
    assert len(extended(zh)["input_ids"]) < 0.5 * len(base(zh)["input_ids"])
    assert extended.decode(extended(zh)["input_ids"]) == zh
    assert extended.chat_template == base.chat_template and extended.pad_token_id == base.pad_token_id


def spelled(folder: Path, pre_tokenizer: Any, normalizer: Any) -> Path:
    """A SentencePiece vocabulary as Llama 2, Mistral and Gemma have one: letters and bytes, no Chinese, blanks as a mark."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(97, 123)), "th", "▁th"]
    model = models.BPE({token: i for i, token in enumerate(tokens)}, [("t", "h"), ("▁", "th")], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer"),
    [
        (None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
        (pre_tokenizers.Metaspace(split=False), None),
        (pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁")),
    ],
    ids=["llama2", "mistral", "gemma"],
)
def test_a_vocabulary_that_falls_back_to_bytes_learns_characters_and_every_text_comes_back(
    pre_tokenizer: Any, normalizer: Any, tmp_path: Path
) -> None:
    """Merged bytes were read back as their names: "<0xE9><0x93>" for "银"."""
    base = spelled(tmp_path / "base", pre_tokenizer, normalizer)
    out = tmp_path / "out"
    train_tokenizer([shard(tmp_path, [*TEXTS, ("en", "the other the other 稀")])], TokenizerSettings(vocab_size=360, extend=str(base)), out)
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (base, out))
    assert all(new.get_vocab()[token] == number for token, number in old.get_vocab().items())
    added = sorted(set(new.get_vocab()) - set(old.get_vocab()))
    assert "银梭河" in " ".join(added) and not [token for token in added if "<0x" in token or "▁" in token[1:]]
    for text in (TEXTS[1][1], TEXTS[0][1].strip(), "the other 稀银😀 thing"):
        assert new.decode(new(text, add_special_tokens=False)["input_ids"]) == text
    assert len(new(TEXTS[1][1])["input_ids"]) < 0.2 * len(old(TEXTS[1][1])["input_ids"])


def test_what_cannot_be_extended_is_refused(tmp_path: Path) -> None:
    train_tokenizer([shard(tmp_path, TEXTS)], TokenizerSettings(vocab_size=620, kind="wordpiece"), tmp_path / "base")
    for source, message in ((tmp_path / "base", "WordPiece"), (tmp_path / "absent", r"no tokenizer\.json")):
        with pytest.raises(BadInput, match=message):
            train_tokenizer([shard(tmp_path, TEXTS)], TokenizerSettings(extend=str(source)), tmp_path / "out")
