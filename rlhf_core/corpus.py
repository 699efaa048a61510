"""The corpus as training blocks: documents tokenized, some held out by their id, the rest packed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rlhf_core.chat import Chat, Tokens
from rlhf_core.errors import BadInput


@dataclass(frozen=True)
class Document:
    id: str
    lang: str
    size: int  # bytes of its UTF-8 text
    ids: list[int]


def read_documents(folder: Path, chat: Chat) -> list[Document]:
    """All documents of `folder` (a corpus artifact, or its documents/), tokenized, in the order of the shards."""
    shards = sorted(
        (folder / "documents" if (folder / "documents").is_dir() else folder).glob("part-*.parquet")
    )
    if not shards:
        raise BadInput(f"no shards part-*.parquet in {folder}")
    documents = []
    for shard in shards:
        table = pq.read_table(shard, columns=["id", "lang", "text"], partitioning=None)
        texts = [text or "" for text in table["text"].to_pylist()]
        rows = zip(table["id"].to_pylist(), table["lang"].to_pylist(), texts, chat.plain(texts), strict=True)
        documents += [
            Document(str(i), lang or "unknown", len(t.encode()), ids) for i, lang, t, ids in rows if ids
        ]
    return documents


def held_out(document_id: str, eval_share: float) -> bool:
    """Whether a document is in the held-out share: decided by its id alone, so that it stays there in every corpus."""
    digest = hashlib.blake2b(b"held-out\0" + document_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < eval_share * 2**64


def pack(documents: list[Document], end_id: int, length: int, seed: int) -> np.ndarray:
    """Documents in a seeded order, an end token before, between and behind them, cut into rows of `length` tokens.

    Rows overlap by one token, so that each token but the very first is predicted once: (rows, length) int64. The
    tail that fills no row is left out. Attention runs across documents inside a row, as in GPT-2 and GPT-3.
    """
    stream = [end_id]
    for index in np.random.default_rng([seed, 0xD0C]).permutation(len(documents)):
        stream += documents[index].ids
        stream.append(end_id)
    step = length - 1
    rows = (len(stream) - 1) // step
    if rows == 0 and len(stream) > 1:
        raise BadInput(f"the corpus has {len(stream)} tokens, fewer than one block of max_length {length}")
    flat = np.asarray(stream, dtype=np.int64)
    return np.stack([flat[row * step : row * step + length] for row in range(rows)])


def windows(document: Document, end_id: int, length: int) -> list[Tokens]:
    """A held-out document as sequences of at most `length` tokens in which every token and the end are predicted once."""
    stream = [end_id, *document.ids, end_id]
    parts = [stream[start : start + length] for start in range(0, len(stream) - 1, length - 1)]
    return [Tokens(part, [False] + [True] * (len(part) - 1)) for part in parts]
