"""The documents of a corpus as its files hold them: read one after the other, tokenized, some held out by their id."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.dataset.records import iterate_records
from rlhf_core.job.errors import BadInput

_AT_ONCE = 1024  # documents that are tokenized together


@dataclass(frozen=True)
class Document:
    id: str
    lang: str
    size: int  # bytes of its UTF-8 text
    ids: NDArray[np.int32]  # (tokens,), without an end token


def corpus_files(folder: Path) -> list[Path]:
    """The files of a corpus in their order: a corpus artifact or its documents/ (Parquet), or conversations (train.jsonl,
    conversations.jsonl), which are read as text with their role marks."""
    shards = sorted((folder / "documents" if (folder / "documents").is_dir() else folder).glob("part-*.parquet"))
    files = [folder / name for name in ("train.jsonl", "conversations.jsonl") if (folder / name).is_file()]
    if not shards and not files:
        raise BadInput(
            f"neither shards part-*.parquet nor conversations (train.jsonl, conversations.jsonl) in {folder}"
        )
    return shards + files


def read_documents(file: Path, chat: Chat) -> Iterator[Document]:
    """The documents of one file, tokenized, in its order; a few of them are in memory at a time."""
    return _read_shard(file, chat) if file.suffix == ".parquet" else _read_conversations(file, chat)


def _read_shard(file: Path, chat: Chat) -> Iterator[Document]:
    for identities, langs, found in _columns(file):
        texts = [text or "" for text in found]
        for identity, lang, text, ids in zip(identities, langs, texts, chat.plain(texts), strict=True):
            if ids:
                yield _document(str(identity), lang, len(text.encode()), ids)


def _columns(file: Path) -> Iterator[list[list[Any]]]:
    """The ids, languages and texts of a shard, a part at a time; BadInput where the file has none or cannot be read."""
    names = ["id", "lang", "text"]
    try:
        with pq.ParquetFile(file) as shard:
            schema = shard.schema_arrow
            if wrong := [name for name in names if name not in schema.names or (name != "id" and not _holds_text(schema.field(name).type))]:
                raise BadInput(f"{file} is no shard of a corpus (id, lang, text): it has no {', no '.join(wrong)} that holds text")
            for batch in shard.iter_batches(_AT_ONCE, columns=names):
                yield [batch[name].to_pylist() for name in names]
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{file} cannot be read: {error}; make the corpus again, or copy it again") from error


def _holds_text(kind: pa.DataType) -> bool:
    return any(is_(kind) for is_ in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null, pa.types.is_dictionary))


def _read_conversations(file: Path, chat: Chat) -> Iterator[Document]:
    answered = (record for record in iterate_records(file) if record.turns[-1].role == "assistant")
    while records := list(islice(answered, _AT_ONCE)):
        for record, tokens in zip(records, chat.conversations(records), strict=True):
            ids = tokens.ids[:-1] if tokens.ids[-1] == chat.end_id else tokens.ids  # packing adds the end
            size = sum(len(turn.text.encode()) for turn in record.turns)
            yield _document(record.id, record.lang, size, ids)


def _document(identity: str, lang: str | None, size: int, ids: list[int]) -> Document:
    return Document(identity, lang or "unknown", size, np.asarray(ids, dtype=np.int32))


def key(document_id: str) -> int:
    """A number below 2^64 that a document keeps in every corpus; by it, documents are held out."""
    digest = hashlib.blake2b(b"held-out\0" + document_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def key_limit(eval_share: float) -> int:
    """Documents with a smaller key are held out."""
    return math.ceil(eval_share * 2**64)


def held_out(document_id: str, eval_share: float) -> bool:
    """Whether a document is in the held-out share: decided by its id alone, so that it stays there in every corpus."""
    return key(document_id) < key_limit(eval_share)
