"""Tokenized documents on disk: written once a job, read through memory maps, so that a corpus may be larger than memory.

A file of the corpus becomes two: NAME.tokens, the tokens of all its documents in a row (int32), and NAME.npz, a row for every
document, written last. The name holds a hash of the file's path, size and date and of the tokenizer, so nothing stale is read.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.dataset.corpus import Document, corpus_files, key, key_limit, read_documents
from rlhf_core.engine import Ranks


@dataclass(frozen=True)
class Documents:
    """Many documents in one order; all but `shards` and `langs` have a row for each.

    shards   of int32 tokens, memory-mapped
    shard    int32, which of them holds the document's tokens
    start    int64, where in it they begin
    length   int64, tokens, without an end token
    size     int64, bytes of the document's UTF-8 text
    lang     int32, its place in `langs`
    key      uint64, by which documents are held out
    """

    shards: Sequence[NDArray[np.int32]]
    langs: Sequence[str]
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    size: NDArray[np.int64]
    lang: NDArray[np.int32]
    key: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.start)

    def ids(self, row: int) -> NDArray[np.int32]:
        """A document's tokens: (tokens,)."""
        start = self.start[row]
        tokens: NDArray[np.int32] = self.shards[self.shard[row]][start : start + self.length[row]]
        return tokens

    def rows(self, chosen: NDArray[Any]) -> Documents:
        """Some of them, by place or by mask."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Documents(self.shards, self.langs, **columns)

    def are_held_out(self, eval_share: float) -> NDArray[np.bool_]:
        """`corpus.held_out` of every document."""
        return self.key < np.uint64(key_limit(eval_share))


_COLUMNS = {"shard": np.int32, "start": np.int64, "length": np.int64, "size": np.int64, "lang": np.int32, "key": np.uint64}


def joined(parts: Sequence[Documents]) -> Documents:
    """The documents of all parts, one part after the other."""
    langs = sorted({lang for part in parts for lang in part.langs})
    shards: list[NDArray[np.int32]] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [np.zeros(0, kind)] for name, kind in _COLUMNS.items()}
    for part in parts:
        places = np.array([langs.index(lang) for lang in part.langs], dtype=np.int32)
        own = {name: getattr(part, name) for name in _COLUMNS}
        own |= {"shard": part.shard + np.int32(len(shards)), "lang": places[part.lang]}
        shards += part.shards
        for name, column in own.items():
            columns[name].append(column)
    return Documents(shards, langs, **{name: np.concatenate(found) for name, found in columns.items()})


def tokenized(folder: Path, chat: Chat, store: Path, ranks: Ranks) -> Documents:
    """All documents of a corpus; its tokens lie in `store`, which all ranks see. Each rank writes a share of the files; what
    an earlier attempt of the job wrote is used."""
    store.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(chat)
    files = {file: store / _name(file, vocabulary) for file in corpus_files(folder)}
    for file, target in list(files.items())[ranks.rank :: ranks.world]:
        if not target.with_suffix(".npz").exists():
            _write(read_documents(file, chat), target)
            print(f"tokenized {file.name}", flush=True)  # a sign of life: no step is reported before all are
    ranks.barrier()
    return joined([_read(target) for target in files.values()])


def _write(documents: Iterable[Document], target: Path) -> None:
    langs: dict[str, int] = {}
    length, size, lang, keys = array("q"), array("q"), array("i"), array("Q")
    tokens, table = target.with_suffix(".tokens"), target.with_suffix(".npz")
    half = [path.with_name(f".{os.getpid()}-{path.name}") for path in (tokens, table)]
    with half[0].open("wb") as file:
        for document in documents:
            file.write(document.ids.tobytes())
            length.append(len(document.ids))
            size.append(document.size)
            lang.append(langs.setdefault(document.lang, len(langs)))
            keys.append(key(document.id))
    with half[1].open("wb") as file:
        names = np.array(list(langs), dtype=np.str_)
        np.savez(file, length=length, size=size, lang=np.array(lang, np.int32), key=np.array(keys, np.uint64), langs=names)
    for written, path in zip(half, (tokens, table), strict=True):
        os.replace(written, path)


def _read(target: Path) -> Documents:
    with np.load(target.with_suffix(".npz"), allow_pickle=False) as table:
        found = {name: table[name] for name in table.files}
    langs = [str(lang) for lang in found.pop("langs")]
    length = found["length"]
    # an empty file cannot be mapped
    whole = np.memmap(target.with_suffix(".tokens"), np.int32, "r") if len(length) else np.zeros(0, np.int32)
    start = np.concatenate([np.zeros(1, np.int64), length.cumsum()])[: len(length)]
    return Documents([whole], langs, shard=np.zeros(len(length), np.int32), start=start, **found)


def _vocabulary(chat: Chat) -> bytes:
    """All that decides how `chat` tokenizes."""
    parts = (chat.tokenizer.backend_tokenizer.to_str(), str(chat.tokenizer.chat_template), str(chat.end_id))
    return hashlib.blake2b("\0".join(parts).encode()).digest()


def _name(file: Path, vocabulary: bytes) -> str:
    known = file.stat()
    where = f"{file.resolve()}\0{known.st_size}\0{known.st_mtime_ns}".encode()
    return f"{file.stem}-{hashlib.blake2b(vocabulary + where, digest_size=8).hexdigest()}"
