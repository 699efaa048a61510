"""Duplicates of an earlier corpus: its index (signatures of the documents it kept) against this crawl's signatures.

A document that agrees with an earlier one in its normalised text or in a band is its copy, and so is every document of its
cluster. The earlier texts are not at hand, so nothing is compared beyond the bands. One band is in memory at a time.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.duplicates.dedup import signatures as signatures_of
from data.corpus.reading.inputs import open_input, refuse_secrets
from data.document import DOCUMENT_SCHEMA, values
from data.places import file_system
from data.settings import DedupSettings
from data.shards import list_shards, read_shard, shard_name, write_shard
from data.text import Hashes

_KEYS = "text_hash"
_PROBE = "The miller sold his grain at the autumn fair, and the baker bought what was left of it the next day."
_PROBE_ZH = "磨坊主在秋季集市上卖掉了粮食，第二天面包师买走了剩下的部分。"
COMPARISON = "comparison"  # in the metadata of index shards: what two indexes must have in common


def comparison(settings: DedupSettings) -> str:
    """What signatures must share to be compared: the settings, and what this version makes of two known texts by them."""
    given = f"{settings.shingle_words} words, {settings.shingle_characters} characters, {settings.bands}x{settings.rows}, seed {settings.seed}"
    rows = [{"id": name, "source": name, "text": text} for name, text in (("en", _PROBE), ("zh", _PROBE_ZH))]
    probe = signatures_of(pa.Table.from_pylist(rows, DOCUMENT_SCHEMA), settings)
    digest = hashlib.blake2b(repr(probe.to_pylist()).encode(), digest_size=6).hexdigest()
    return f"{given}, {digest}"


def index_shards(path: str, settings: DedupSettings) -> list[str]:
    """Shards of an index: a `corpus` artifact or its index/ folder, a local path or any fsspec URL; named likewise.

    Raises FileNotFoundError where there is none, ValueError where it was made with other settings of duplicates.
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


def label_earlier(signatures: Sequence[Path], labels: Path, indexes: Sequence[Path]) -> int:
    """Add `earlier_duplicate` to the label shards of duplicates: the smallest id of the earlier copies, or null.

    `signatures` and the shards in `labels` have the same documents in the same order. Returns how many have one.
    """
    if not signatures:
        return 0
    every = np.concatenate([np.array(values(read_shard(shard, ["id"]), "id"), dtype="S32") for shard in indexes])
    ids, rank = np.unique(every, return_inverse=True)
    found = np.full(sum(pq.read_metadata(shard).num_rows for shard in signatures), len(ids), dtype=np.int64)
    for name in [name for name in pq.read_schema(signatures[0]).names if name != "id"]:
        earlier = _column(indexes, name)
        order = np.lexsort((rank, earlier))
        at = np.searchsorted(earlier[order], own := _column(signatures, name))
        hit = at < len(order)
        hit[hit] = earlier[order[at[hit]]] == own[hit]
        found[hit] = np.minimum(found[hit], rank[order[at[hit]]])
    tables = [read_shard(path) for path in list_shards(labels)]
    cluster = np.concatenate([np.array(values(table, "duplicate_cluster"), dtype="S32") for table in tables])
    _, place = np.unique(cluster, return_inverse=True)
    smallest = np.full(len(cluster), len(ids), dtype=np.int64)
    np.minimum.at(smallest, place, found)
    copies = [ids[row].decode("ascii") if row < len(ids) else None for row in smallest[place].tolist()]
    start = 0
    for path, table in zip(list_shards(labels), tables, strict=True):
        span = pa.array(copies[start : start + table.num_rows], pa.string())
        write_shard(path, table.append_column("earlier_duplicate", span))
        start += table.num_rows
    return sum(copy is not None for copy in copies)


def _column(shards: Sequence[Path], name: str) -> Hashes:
    return np.concatenate([read_shard(shard, [name])[name].to_numpy() for shard in shards])
