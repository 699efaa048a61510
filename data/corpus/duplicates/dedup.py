"""Near and exact duplicates: clusters over the whole corpus, decided from the signatures of its shards (minhash.py).

Documents that share a band (keys.py) and, unless `verify` is off, whose true similarity is high enough (verification.py) are linked;
a cluster is a connected component of links (components.py). Each step goes through the corpus in partitions on disk. In memory lie
one of these and, of all documents, the components: 18 bytes a document, and 24 of each candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.duplicates.clusters import Clusters
from data.corpus.duplicates.components import Components, links_of_equal
from data.corpus.duplicates.keys import KEYED, TEXT, KeyFiles
from data.corpus.duplicates.shingling import ShingleSets, write_sets
from data.corpus.duplicates.verification import candidates, verified_links
from data.document import Counts, label_schema, values
from data.places import remove_at_once
from data.settings import DedupSettings
from data.shards import read_shard, shard_name, write_shard

OverShards = Callable[[Callable[[Path, Path, int], Counts], Sequence[Path], Path], Any]  # (work, shards, out): work(shard, out, index) on each
DUPLICATE_LABELS = label_schema(
    {
        "exact_cluster": pa.string(),  # smallest id of the documents with the same normalised text
        "exact_size": pa.int64(),  # documents in it
        "duplicate_cluster": pa.string(),  # smallest id of the near-duplicate cluster
        "duplicate_size": pa.int64(),
    }
)


def find_duplicates(
    signatures: Sequence[Path],
    out: Path,
    settings: DedupSettings,
    documents: Sequence[Path] = (),
    work: Path | None = None,
    over_shards: OverShards | None = None,
) -> Counts:
    """Write out/labels/part-* (DUPLICATE_LABELS), shard by shard and row by row as `signatures`.

    A cluster's name is its smallest id: the result depends on neither order nor shards. Unless `verify` is off, candidates are linked
    where their true similarity is `threshold` at least; `documents` are the shards that the signatures were made from, of which each is
    read once, by `over_shards` (default: one after the other). What is written for that lies in `work` (default: a folder in `out`)
    until the end.
    """
    work = work or out / ".work"
    keys = KeyFiles(signatures, work / "keys", settings)
    exact = Components(len(keys))
    for part in keys.partitions(TEXT):
        exact.join(links_of_equal(part))
    near = exact.copy()
    if settings.verify:
        _join_alike(near, keys, documents, work, settings, over_shards or _one_by_one)
    else:
        for band in keys.bands:
            for part in keys.partitions(band):
                near.join(links_of_equal(part))
    clusters = [Clusters(components, signatures, keys.starts, work / name) for name, components in (("exact", exact), ("near", near))]
    for index, shard in enumerate(signatures):
        ids = values(read_shard(shard, ["id"]), "id")
        columns = [column for found in clusters for column in found.labels(index, ids)]
        write_shard(out / "labels" / shard_name(index), pa.table([ids, *columns], schema=DUPLICATE_LABELS))
    remove_at_once(work)
    return Counts(len(keys), len(keys))


def _join_alike(near: Components, keys: KeyFiles, documents: Sequence[Path], work: Path, settings: DedupSettings, over_shards: OverShards) -> None:
    """Candidates of all bands first, so that every document's shingles are made once; then links, band by band."""
    wanted = np.zeros(len(keys), dtype=np.bool_)
    groups: list[list[Path]] = []
    for band in keys.bands:
        groups.append([])
        for number, part in enumerate(keys.partitions(band)):
            found = candidates(part, near)
            wanted[found["row"]] = True
            groups[-1].append(work / f"groups-{band}-{number}")
            found.tofile(groups[-1][-1])
    sets = _sets_of(wanted, keys.starts, documents, work, settings, over_shards)
    for parts in groups:
        links = [verified_links(np.fromfile(path, KEYED), near, sets, settings.threshold) for path in parts]
        for one in links:  # once the whole band is compared: what is found does not depend on its partitions
            near.join(one)


def _sets_of(
    wanted: NDArray[np.bool_], starts: NDArray[np.int64], documents: Sequence[Path], work: Path, settings: DedupSettings, over_shards: OverShards
) -> ShingleSets:
    """The shingles of the `wanted` rows, written to work/sets."""
    if len(documents) != len(starts) - 1:
        raise ValueError(f"duplicates.verify needs the documents: {len(starts) - 1} shards of signatures, {len(documents)} of documents")
    masks = work / "candidates"
    masks.mkdir(parents=True, exist_ok=True)
    for index in range(len(documents)):
        np.save(masks / f"{index:05d}.npy", wanted[starts[index] : starts[index + 1]])
    over_shards(partial(_write_sets, masks=masks, settings=settings), documents, work / "sets")
    return ShingleSets([_set_file(work / "sets", index) for index in range(len(documents))])


def _write_sets(shard: Path, out: Path, index: int, masks: Path, settings: DedupSettings) -> Counts:
    wanted = np.load(masks / f"{index:05d}.npy", allow_pickle=False)
    write_sets(shard, wanted, _set_file(out, index), settings)
    return Counts(len(wanted), len(wanted))


def _set_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.sets"


def _one_by_one(work: Callable[[Path, Path, int], Counts], shards: Sequence[Path], out: Path) -> None:
    for index, shard in enumerate(shards):
        work(shard, out, index)
