"""A byte-level BPE vocabulary trained from the corpus, saved as a folder that `transformers.AutoTokenizer` opens.

Neither torch nor transformers is imported here, so that a flow can train a vocabulary in its own process.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlhf_core.settings import TokenizerSettings

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = [PAD, END, SYSTEM, USER, ASSISTANT]

# The space after the role makes the first word of a text the token that it is in the middle of one, so that a
# name learned from the corpus (" Orsk") is the same token at the start of an answer.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|> ' + message['content'] | trim + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def corpus_texts(shards: list[Path]) -> Iterator[tuple[str, str]]:
    """(language or "unknown", text) of every document of the Parquet shards, in their order."""
    for shard in shards:
        table = pq.read_table(shard, columns=["lang", "text"], partitioning=None)
        for lang, text in zip(table["lang"].to_pylist(), table["text"].to_pylist(), strict=True):
            if text:
                yield lang or "unknown", text


def new_tokenizer() -> Tokenizer:
    """Byte-level BPE without merges: every UTF-8 text can be written and read back; digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(shards: list[Path], settings: TokenizerSettings, out: Path) -> dict[str, Any]:
    """Train on `documents/part-*.parquet` shards (columns lang, text) and write the folder `out`.

    Returns {"vocab_size", "documents", "bytes_per_token": {lang: bytes}}; raises ValueError on an empty corpus.
    The result depends on the texts and the settings alone.
    """
    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in corpus_texts(shards)), trainer)
    save_tokenizer(tokenizer, out)
    counts = _bytes_per_token(tokenizer, shards)
    if not counts["documents"]:
        raise ValueError("the corpus holds no text to train a vocabulary on")
    return {"vocab_size": tokenizer.get_vocab_size(), **counts}


def save_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _bytes_per_token(tokenizer: Tokenizer, shards: list[Path]) -> dict[str, Any]:
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    documents = 0
    for lang, text in corpus_texts(shards):
        documents += 1
        sizes[lang][0] += len(text.encode("utf-8"))
        sizes[lang][1] += len(tokenizer.encode(text).ids)
    bytes_per_token = {
        lang: round(size / max(tokens, 1), 4) for lang, (size, tokens) in sorted(sizes.items())
    }
    return {"documents": documents, "bytes_per_token": bytes_per_token}
