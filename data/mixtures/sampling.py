"""Sampling by quality or label: how many copies of each document a mixture's source holds.

A document of weight w stands floor(w) times, and once more with probability w - floor(w), drawn from its id and the seed:
the expected number of copies is w, whatever the order of documents, the shards or the process, and nothing is remembered.
Numbers become weights by exp(z / temperature), z the label's standard score (QuRating's sampling, Wettig et al. 2024, eq. 4,
with z in place of the rating), z and scale taken over the source's own documents, whose mean weight is 1; other labels by a
table of factors.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.document import values as values_of
from data.instructions.formats import Rejected, stream_conversations, write_jsonl
from data.instructions.records import Conversation
from data.mixtures.settings import LabelSampling
from data.shards import read_shard, shard_name, write_shard

Floats = NDArray[np.float64]
_NAMED = 10  # values that an error names


def copies(ids: Sequence[str], weights: Floats, seed: int) -> NDArray[np.int64]:
    """Copies of each document, shape (documents,)."""
    whole = np.floor(weights)
    drawn = np.array([_fraction(identity, seed) for identity in ids], dtype=np.float64)
    return (whole + (drawn < weights - whole)).astype(np.int64)


def _fraction(identity: str, seed: int) -> float:
    digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8, key=f"sampling:{seed}".encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


class Labels:
    """One label by document id: 16 bytes a document (a hash of the id and a number), in sorted arrays."""

    def __init__(self, shards: Iterable[Path], sampling: LabelSampling) -> None:
        """Raises ValueError where no shard has the label, or where it is text and has no factors, or factors for none of its values."""
        hashes, values = [np.zeros(0, np.uint64)], [np.zeros(0)]
        self._said: set[str] = set()  # values of a label that has factors
        for shard in shards:
            names = pq.read_schema(shard).names
            if sampling.label in names and "id" in names:
                table = read_shard(shard, ["id", sampling.label])
                hashes.append(_hashes(values_of(table, "id")))
                values.append(self._numbers(table[sampling.label], sampling))
        keys, numbers = np.concatenate(hashes), np.concatenate(values)
        if not len(keys):
            raise ValueError(f"no label {sampling.label!r} in the label tables of this source")
        if sampling.factors and not self._said & sampling.factors.keys():
            raise ValueError(f"no value of the label {sampling.label!r} has a factor; values: {', '.join(sorted(self._said)[:_NAMED])}")
        order = np.argsort(keys, kind="stable")
        self._keys, self._values = keys[order], numbers[order]
        self._sampling = sampling
        self._scale = (0.0, 1.0, 1.0)

    def _numbers(self, column: pa.ChunkedArray, sampling: LabelSampling) -> Floats:
        if sampling.factors is None:
            if pa.types.is_string(column.type):
                raise ValueError(f"the label {sampling.label!r} is text: give it factors, VALUE: COPIES")
            numbers = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
            return np.where(np.isfinite(numbers), numbers, np.nan)
        said = [str(value).lower() if isinstance(value, bool) else str(value) for value in column.to_pylist()]
        self._said.update(said)
        return np.array([sampling.factors.get(value, sampling.otherwise) for value in said], dtype=np.float64)

    def fit(self, batches: Iterable[Sequence[str]]) -> None:
        """Take deviation and mean weight of a number's label over these documents, given by their ids."""
        found = np.concatenate([np.zeros(0), *(self._of(ids) for ids in batches)])
        known = found[~np.isnan(found)]
        if self._sampling.factors is None and len(known):
            best, scale = float(known.max()), (float(known.std()) or 1.0) * self._sampling.temperature
            self._scale = best, scale, float(np.exp((known - best) / scale).mean())  # from the best on, or low temperatures overflow

    def _of(self, ids: Sequence[str]) -> Floats:
        """Labels (or factors) of documents, NaN where there is none."""
        wanted = _hashes(ids)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._values[at], np.nan)

    def weights(self, ids: Sequence[str]) -> Floats:
        """Weight of each document; of one without the label `otherwise`."""
        values = self._of(ids)
        if self._sampling.factors is not None:
            weights = values
        else:
            best, scale, mean = self._scale
            weights = np.exp((values - best) / scale) / mean
        return np.minimum(np.where(np.isnan(weights), self._sampling.otherwise, weights), self._sampling.max_copies)


def sample_shards(documents: Sequence[Path], labels: Sequence[Path], sampling: LabelSampling, seed: int, out: Path) -> dict[str, int]:
    """Write out/documents/part-*: each document as often as its label says. Returns documents_in, kept (distinct), rows.

    Copies of a document stand together; the reading's permutation parts them.
    """
    known = Labels(labels, sampling)
    known.fit(values_of(read_shard(shard, ["id"]), "id") for shard in documents)
    counts = {"documents_in": 0, "kept": 0, "rows": 0}
    for number, shard in enumerate(documents):
        table = read_shard(shard)
        ids = values_of(table, "id")
        times = copies(ids, known.weights(ids), seed)
        counts["documents_in"] += len(ids)
        counts["kept"] += int((times > 0).sum())
        counts["rows"] += int(times.sum())
        write_shard(out / "documents" / shard_name(number), table.take(np.repeat(np.arange(len(ids)), times)))
    return counts


def sample_conversations(file: Path, sampling: LabelSampling, seed: int) -> dict[str, int]:
    """Write `file`'s records anew, each as often as its label says: one of `labels`, or its `lang` or `source`. Returns as `sample_shards`."""
    with tempfile.TemporaryDirectory(prefix=".labels-", dir=file.parent) as folder:
        pairs = [(record.id, {"lang": record.lang, "source": record.source, **record.labels}.get(sampling.label)) for record in _records(file)]
        values = [value for _, value in pairs]
        if any(isinstance(value, str) for value in values):
            values = [None if value is None else str(value) for value in values]
        has_label = any(value is not None for value in values)
        write_shard(shard := Path(folder) / shard_name(0), pa.table({"id": [identity for identity, _ in pairs], **({sampling.label: values} if has_label else {})}))
        known = Labels([shard], sampling)
    ids = [identity for identity, _ in pairs]
    known.fit([ids])
    times = copies(ids, known.weights(ids), seed).tolist()
    rows = write_jsonl(file, (record for record, count in zip(_records(file), times, strict=True) for _ in range(count)))
    return {"documents_in": len(ids), "kept": sum(count > 0 for count in times), "rows": rows}


def _records(file: Path) -> Iterator[Conversation]:
    return (record for record in stream_conversations(file) if not isinstance(record, Rejected))


def _hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    joined = b"".join(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest() for identity in ids)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)
