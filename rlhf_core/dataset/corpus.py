"""The corpus as training blocks: documents tokenized, some held out by their id, the rest packed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rlhf_core.dataset.chat_template import Chat, Tokens
from rlhf_core.dataset.records import read_records
from rlhf_core.job.errors import BadInput


@dataclass(frozen=True)
class Document:
    id: str
    lang: str
    size: int  # bytes of its UTF-8 text
    ids: np.ndarray  # (tokens,) int32, without an end token


def read_documents(folder: Path, chat: Chat) -> list[Document]:
    """All documents of `folder`, tokenized, in the order of its files: a corpus artifact or its documents/ (Parquet), or
    conversations (train.jsonl, conversations.jsonl), which are read as text with their role marks."""
    shards = sorted(
        (folder / "documents" if (folder / "documents").is_dir() else folder).glob("part-*.parquet")
    )
    files = [folder / name for name in ("train.jsonl", "conversations.jsonl") if (folder / name).is_file()]
    if not shards and not files:
        raise BadInput(
            f"neither shards part-*.parquet nor conversations (train.jsonl, conversations.jsonl) in {folder}"
        )
    documents = []
    for shard in shards:
        table = pq.read_table(shard, columns=["id", "lang", "text"], partitioning=None)
        texts = [text or "" for text in table["text"].to_pylist()]
        rows = zip(table["id"].to_pylist(), table["lang"].to_pylist(), texts, chat.plain(texts), strict=True)
        documents += [_document(str(i), lang, len(t.encode()), ids) for i, lang, t, ids in rows if ids]
    for file in files:
        records = [record for record in read_records(file) if record.turns[-1].role == "assistant"]
        for record, tokens in zip(records, chat.conversations(records), strict=True):
            ids = tokens.ids[:-1] if tokens.ids[-1] == chat.end_id else tokens.ids  # packing adds the end
            size = sum(len(turn.text.encode()) for turn in record.turns)
            documents.append(_document(record.id, record.lang, size, ids))
    return documents


def _document(identity: str, lang: str | None, size: int, ids: list[int]) -> Document:
    return Document(identity, lang or "unknown", size, np.asarray(ids, dtype=np.int32))


def held_out(document_id: str, eval_share: float) -> bool:
    """Whether a document is in the held-out share: decided by its id alone, so that it stays there in every corpus."""
    digest = hashlib.blake2b(b"held-out\0" + document_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < eval_share * 2**64


def pack(documents: list[Document], end_id: int, length: int, seed: int) -> np.ndarray:
    """Documents in a seeded order, an end token before, between and behind them, cut into rows of `length` tokens.

    Rows overlap by one token, so that each token but the very first is predicted once: (rows, length) int64. The
    tail that fills no row is left out. Attention runs across documents inside a row, as in GPT-2 and GPT-3.
    """
    order = np.random.default_rng([seed, 0xD0C]).permutation(len(documents))
    end = np.array([end_id], dtype=np.int32)
    return rows_of([end, *(part for index in order for part in (documents[index].ids, end))], length)


def rows_of(parts: list[np.ndarray], length: int) -> np.ndarray:
    """A stream of tokens, given in parts, as rows that overlap by one token: (rows, length) int64."""
    flat = np.concatenate(parts).astype(np.int64)
    step = length - 1
    rows = (len(flat) - 1) // step
    if rows == 0 and len(flat) > 1:
        raise BadInput(f"the corpus has {len(flat)} tokens, fewer than one block of max_length {length}")
    return (
        np.stack([flat[row * step : row * step + length] for row in range(rows)])
        if rows
        else np.zeros((0, length), np.int64)
    )


def windows(document: Document, end_id: int, length: int) -> list[Tokens]:
    """A held-out document as sequences of at most `length` tokens in which every token and the end are predicted once."""
    stream = [end_id, *document.ids.tolist(), end_id]
    parts = [stream[start : start + length] for start in range(0, len(stream) - 1, length - 1)]
    return [Tokens(part, [False] + [True] * (len(part) - 1)) for part in parts]
