"""What documents are compared by, as files of numbers: one kind of key after the other, rows of equal key in one partition."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.corpus.duplicates.minhash import band_keys, minima_of
from data.corpus.partitions import deal
from data.corpus.sampling import id_keys
from data.document import id_bytes
from data.settings import DedupSettings
from data.shards import read_shard
from data.text import Hashes

KEYED = np.dtype([("key", "u8"), ("order", "u8"), ("row", "i8")])
Keyed = NDArray[np.void]  # of KEYED
TEXT = "text"
_ORDER = "order"
_PARTITION_ROWS = 2_000_000  # 24 bytes each, and as much again some three times while they are sorted


def partitions_of(rows: int) -> int:
    """How many parts of so many rows are small enough to be sorted in memory."""
    return max(1, -(-rows // _PARTITION_ROWS))


def document_order(ids: NDArray[np.bytes_]) -> Hashes:
    """By what documents come one before the other, wherever they stand: hashes of their ids."""
    return id_keys(ids, 0)


class KeyFiles:
    """Of every document the hash of its normalised text (`TEXT`), its key in each of the `bands`, and its order.

    Rows are numbered in the order of `signatures`; `starts` holds each shard's first row and, at the end, how many there are. The
    order is a hash of the document's id: who comes first depends on the documents alone. 8 bytes a document and file, in `folder`.
    """

    def __init__(self, signatures: Sequence[Path], folder: Path, settings: DedupSettings) -> None:
        self.bands = [f"band_{band}" for band in range(settings.bands)]
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
        folder.mkdir(parents=True)
        for name in (_ORDER, TEXT, *self.bands):
            (folder / name).touch()
        rows = [self._append(read_shard(shard, ["id", "text_hash", "minima"]), settings) for shard in signatures]
        self.starts: NDArray[np.int64] = np.cumsum([0, *rows])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _append(self, signed: pa.Table, settings: DedupSettings) -> int:
        bands = band_keys(minima_of(signed, settings), settings)
        columns = {_ORDER: document_order(id_bytes(signed)), TEXT: signed["text_hash"].to_numpy()}
        columns |= {name: bands[:, band] for band, name in enumerate(self.bands)}
        for name, column in columns.items():
            with (self._folder / name).open("ab") as file:
                file.write(column.tobytes())
        return signed.num_rows

    def order(self, rows: NDArray[np.int64]) -> Hashes:
        """The order of some rows."""
        return np.memmap(self._folder / _ORDER, np.uint64, mode="r")[rows] if len(rows) else np.zeros(0, np.uint64)

    def partitions(self, name: str, count: int | None = None) -> Iterator[Keyed]:
        """All rows with one of their keys, in `count` parts (default: as many as memory asks for): those of equal key in the same."""
        count = count or partitions_of(len(self))
        if count == 1:
            yield np.concatenate([np.zeros(0, KEYED), *self._keyed(name, max(len(self), 1))])
            return
        dealt = self._folder / "dealt"
        deal(self._keyed(name, 1 << 17), dealt, count, lambda rows: (rows["key"] >> np.uint64(32)).astype(np.int64) * count >> 32)
        for number in range(count):
            yield np.fromfile(f"{dealt}-{number}", KEYED)

    def _keyed(self, name: str, at_once: int) -> Iterator[Keyed]:
        for start in range(0, len(self), at_once):
            stop = min(start + at_once, len(self))
            part = np.empty(stop - start, KEYED)
            for field, file in (("key", name), ("order", _ORDER)):
                part[field] = np.fromfile(self._folder / file, np.uint64, stop - start, offset=8 * start)
            part["row"] = np.arange(start, stop)
            yield part
