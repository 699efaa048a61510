"""Near-duplicates among short texts: MinHash bands as in the corpus half, then the true Jaccard similarity.

Instructions are short: of a prompt of six words every 5-word shingle holds the one word that was changed. So their shingles
are five characters, in every language, over letters and digits alone. Texts and band keys lie on disk; what is held in
memory are a few numbers a text, one band, and the shingles of one group.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.corpus.duplicates.components import Components, Links, Rows
from data.corpus.duplicates.minhash import band_keys, minhash
from data.settings import DedupSettings
from data.text import Hashes, code_points, mix, ngram_hashes

_CHARACTERS = 5  # of a shingle
# 20 bands of 5 rows: P(candidate) = 1 - (1 - J^5)^20, .97 at J = .7 and .9996 at .8; what is not alike is let go by its Jaccard.
_BANDS = DedupSettings(hashes=100, bands=20, rows=5)
_BATCH = 2000  # texts
_SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})


def leaders(texts: Iterable[tuple[str, str]], jaccard: float, work: Path) -> dict[str, str]:
    """For every id whose text is a near-duplicate of another: the smallest id of its cluster; ids that lead are left out.

    A cluster is a connected component of pairs of at least this Jaccard similarity of character shingles.

    Args:
        texts: (id, text). An id may come again, with the same text.
        jaccard: in (0, 1].
        work: an empty folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    count = 0
    with pa.OSFile(str(work / "texts.arrow"), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as file, (work / "keys").open("wb") as keys:
        for batch in _batches(texts):
            spelled = ["".join(char for char in text if char.isalnum()) or text or "\0" for _, text in batch]
            file.write_table(pa.table([[identity for identity, _ in batch], spelled], schema=_SCHEMA))
            keys.write(band_keys(minhash([_shingles(text) for text in spelled], _BANDS), _BANDS).tobytes())
            count += len(batch)
    if not count:
        return {}
    with pa.memory_map(str(work / "texts.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
        bands = np.memmap(work / "keys", dtype=np.uint64, mode="r", shape=(count, _BANDS.bands))
        components, every = Components(count), np.arange(count)
        for band in range(_BANDS.bands):
            components.join(_alike(np.ascontiguousarray(bands[:, band]), components.of(every), table["text"], jaccard))
        return _by_smallest_id(components.of(every), table["id"])


def _shingles(text: str) -> Hashes:
    codes = mix(code_points(text).astype(np.uint64) + np.uint64(1))
    return ngram_hashes(codes, min(_CHARACTERS, len(codes)))


def _alike(keys: Hashes, component: Rows, texts: pa.ChunkedArray, jaccard: float) -> Links:
    """Links between rows with the same key that are close enough, group by group."""
    order = np.lexsort((component, keys))
    fresh = (keys[order][1:] != keys[order][:-1]) | (component[order][1:] != component[order][:-1])
    order = order[np.concatenate([[True], fresh])]  # each component once a group
    borders = np.concatenate([[0], np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1, [len(order)]])
    groups = np.flatnonzero(np.diff(borders) > 1)
    links = [
        (left, right)
        for first, end in zip(borders[groups].tolist(), borders[groups + 1].tolist(), strict=True)
        for left, right in _led(order[first:end].tolist(), texts, jaccard)
    ]
    left, right = zip(*links, strict=True) if links else ((), ())
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def _led(rows: list[int], texts: pa.ChunkedArray, jaccard: float) -> Iterator[tuple[int, int]]:
    """(leader, row) for each row of a group that is close to a leader, the first one that it is close to; who is to none leads.

    A template puts thousands of texts that are not alike into one group, so nobody is compared with all leaders. Of two sets of
    n <= m shingles, in one common order, whose Jaccard similarity is t or more, the first n - ceil(2tn / (1 + t)) + 1 of the
    smaller and the first m - ceil(tm) + 1 of the larger have one in common (Xiao et al. 2008, "Efficient Similarity Joins for
    Near Duplicate Detection", lemmas 1 and 2); the order is by rarity, so that few others have it.
    """
    sets = [np.unique(_shingles(texts[row].as_py())) for row in rows]
    shingles, places, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rank = np.empty(len(shingles), dtype=np.int64)
    rank[np.lexsort((shingles, counts))] = np.arange(len(shingles))
    ranks = [np.sort(own) for own in np.split(rank[places], np.cumsum([len(own) for own in sets])[:-1])]
    smaller, larger = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)  # leaders by their first shingles
    for place, own in enumerate(ranks):
        few, more = (own[: len(own) - math.ceil(part * len(own) - 1e-9) + 1].tolist() for part in (2 * jaccard / (1 + jaccard), jaccard))
        near = {leader for shingle in more for leader in smaller.get(shingle, ())}
        near.update(leader for shingle in few for leader in larger.get(shingle, ()))
        for leader in sorted(near):
            shared = len(np.intersect1d(ranks[leader], own, assume_unique=True))
            if shared >= jaccard * (len(ranks[leader]) + len(own) - shared):
                yield rows[leader], rows[place]
                break
        else:
            for shingle in few:
                smaller[shingle].append(place)
            for shingle in more:
                larger[shingle].append(place)


def _by_smallest_id(component: Rows, ids: pa.ChunkedArray) -> dict[str, str]:
    members = np.flatnonzero(np.bincount(component)[component] > 1)
    names = [str(name) for name in ids.take(members).to_pylist()]
    smallest: dict[int, str] = {}
    for row, name in zip(component[members].tolist(), names, strict=True):
        smallest[row] = min(smallest.get(row, name), name)
    led = zip(names, component[members].tolist(), strict=True)
    return {name: smallest[row] for name, row in led if name != smallest[row]}


def _batches(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        yield batch
