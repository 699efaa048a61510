"""A vocabulary over bytes trained from the corpus, saved as a folder that `transformers.AutoTokenizer` opens.

Neither torch nor transformers is imported here, so that a flow can train a vocabulary in its own process.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlhf_core.dataset.extension import extend, in_pieces, words, write_extended
from rlhf_core.job.errors import BadInput
from rlhf_core.settings import TokenizerSettings

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
_INSIDE = "→"  # marks a WordPiece that does not begin a word; no byte is spelled so
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


def new_tokenizer(kind: str = "bpe", vocabulary: dict[str, int] | None = None) -> Tokenizer:
    """BPE (still empty) or WordPiece over bytes: every UTF-8 text can be written and read back; digits stand alone."""
    if kind == "wordpiece":
        options: dict[str, Any] = {"max_input_chars_per_word": 10_000, "continuing_subword_prefix": _INSIDE}
        tokenizer = Tokenizer(models.WordPiece(vocabulary or {}, unk_token=PAD, **options))
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_INSIDE, ""), decoders.Fuse(), decoders.ByteLevel()]
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def train_tokenizer(shards: list[Path], settings: TokenizerSettings, out: Path) -> dict[str, Any]:
    """Train on `documents/part-*.parquet` shards (columns lang, text), or extend a given vocabulary with them, and
    write the folder `out`.

    Returns {"vocab_size", "documents", "bytes_per_token": {lang: bytes}} ("new_tokens" where it was extended); raises
    ValueError on an empty corpus. The result depends on the texts and the settings alone.
    """
    texts = (text for _, text in corpus_texts(shards))
    found: dict[str, Any] = {}
    if settings.extend:
        source = tokenizer_folder(settings.extend)
        old = Tokenizer.from_file(str(source / "tokenizer.json"))
        tokenizer = extend(old, texts, settings.vocab_size, settings.min_frequency)
        found["new_tokens"] = tokenizer.get_vocab_size() - old.get_vocab_size()
        if not found["new_tokens"]:
            raise BadInput(
                f"tokenizer.extend: no token was added: the old vocabulary has {old.get_vocab_size()}, vocab_size is "
                f"{settings.vocab_size}, and a pair must stand {settings.min_frequency} times in the corpus"
            )
        write_extended(source, tokenizer, out)
    else:
        tokenizer = _trained(texts, settings)
        save_tokenizer(tokenizer, out)
    counts = _bytes_per_token(tokenizer, shards)
    if not counts["documents"]:
        raise ValueError("the corpus holds no text to train a vocabulary on")
    return {"vocab_size": tokenizer.get_vocab_size(), **found, **counts}


def _trained(texts: Iterator[str], settings: TokenizerSettings) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = new_tokenizer()
    kept = list(texts) if settings.kind == "wordpiece" else []
    tokenizer.train_from_iterator(kept or texts, trainer)
    return tokenizer if settings.kind == "bpe" else _wordpiece(tokenizer, kept, settings.vocab_size)


def _wordpiece(bpe: Tokenizer, texts: list[str], vocab_size: int) -> Tokenizer:
    """WordPiece with the pieces that BPE learned, as they stand in the texts: at the beginning of a word or inside it.

    (WordPieceTrainer does the same, but numbers its pieces anew in every process.) Every byte has both forms, so
    nothing is unknown; the most frequent of the longer pieces fill the vocabulary.
    """
    counts: Counter[str] = Counter()
    for word, count in in_pieces(bpe, words(bpe, texts)).items():
        for place, piece in enumerate(word):
            counts[piece if place == 0 else _INSIDE + piece] += count
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *alphabet, *(_INSIDE + byte for byte in alphabet)])
    if vocab_size < len(pieces):
        raise BadInput(
            f"tokenizer.vocab_size: WordPiece over bytes needs at least {len(pieces)}, not {vocab_size}"
        )
    longer = sorted(
        (piece for piece in counts if piece not in pieces), key=lambda piece: (-counts[piece], piece)
    )
    pieces |= dict.fromkeys(longer[: vocab_size - len(pieces)])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = new_tokenizer("wordpiece", vocabulary)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return tokenizer


def tokenizer_folder(source: str) -> Path:
    """The folder of a tokenizer.json: of a tokenizer, a model, an artifact, or a hub name's local copy."""
    folder = Path(source)
    for place in (folder, folder / "model", folder / "tokenizer"):
        if (place / "tokenizer.json").is_file():
            return place
    if folder.exists() or folder.is_absolute() or source.count("/") != 1:
        raise BadInput(f"tokenizer.extend: no tokenizer.json in {source}")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source, allow_patterns=["tokenizer*.json", "special_tokens_map.json", "*.jinja"]
            )
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"tokenizer.extend: {source} cannot be had from the hub: {error}") from error


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
