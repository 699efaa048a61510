"""The index of a corpus, for a later crawl: the signatures of the documents it kept, where it lies and what it can be compared with.

Beside its signatures the index says of each document whether its text was `changed` when it was kept (cut, redacted): those
that were not can be read in the corpus's documents, shard by shard and row by row as the index, and be compared themselves.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.duplicates.minhash import signatures as signatures_of
from data.corpus.reading.inputs import open_input, refuse_secrets
from data.document import DOCUMENT_SCHEMA
from data.places import file_system
from data.settings import SignatureSettings
from data.shards import shard_name

_PROBE = "The miller sold his grain at the autumn fair, and the baker bought what was left of it the next day."
_PROBE_ZH = "磨坊主在秋季集市上卖掉了粮食，第二天面包师买走了剩下的部分。"
CHANGED = "changed"  # column of index shards: whether the kept text is not the one that was signed
COMPARISON = "comparison"  # in the metadata of index shards: what two indexes must have in common


def comparison(settings: SignatureSettings) -> str:
    """What signatures must share to be compared: the settings, and what this version makes of two known texts by them."""
    given = f"{settings.shingle_words} words, {settings.shingle_characters} characters, {settings.hashes} hashes, seed {settings.seed}"
    rows = [{"id": name, "source": name, "text": text} for name, text in (("en", _PROBE), ("zh", _PROBE_ZH))]
    probe = signatures_of(pa.Table.from_pylist(rows, DOCUMENT_SCHEMA), settings)
    digest = hashlib.blake2b(repr(probe.to_pylist()).encode(), digest_size=6).hexdigest()
    return f"{given}, {digest}"


def index_shards(path: str, settings: SignatureSettings) -> list[str]:
    """Shards of an index: a `corpus` artifact or its index/ folder, a local path or any fsspec URL; named likewise.

    Raises FileNotFoundError where there is none, ValueError where its signatures were made with other settings.
    """
    refuse_secrets(path)
    fs, root = file_system(path)
    found = sorted(fs.glob(f"{root}/index/part-*.parquet") or fs.glob(f"{root}/part-*.parquet"), key=lambda name: (len(name), name))
    if not found:
        raise FileNotFoundError(f"duplicates.earlier: {path}: no index there; name a corpus artifact or its index folder")
    shards = [fs.unstrip_protocol(name) for name in found] if "://" in path else found
    with open_input(shards[0]) as first:
        metadata = pq.read_schema(first).metadata or {}
    made = metadata.get(COMPARISON.encode(), b"").decode()
    if made != comparison(settings):
        raise ValueError(f"duplicates.earlier: {path} was made with {made or 'no settings'}, this run compares by {comparison(settings)}; they cannot be compared")
    return shards


def texts_beside(shard: str) -> str | None:
    """The shard of documents that belongs to an index shard, named likewise; None where only the index was brought along."""
    fs, name = file_system(shard)
    folder, file = name.rsplit("/", 1)
    texts = f"{folder.rsplit('/', 1)[0]}/documents/{file}"
    if not fs.exists(texts):
        return None
    return fs.unstrip_protocol(texts) if "://" in shard else texts


def local_copies(shards: Sequence[str], folder: Path) -> list[Path]:
    """The shards as local files: copied into `folder` where they lie elsewhere and are not there yet."""
    found = []
    for number, shard in enumerate(shards):
        if "://" in shard:
            found.append(folder / shard_name(number))
            if not found[-1].exists():
                folder.mkdir(parents=True, exist_ok=True)
                arriving = folder / f".{number}.{uuid.uuid4().hex}"
                fs, name = file_system(shard)
                fs.get_file(name, str(arriving))
                os.replace(arriving, found[-1])
        else:
            found.append(Path(shard))
    return found
