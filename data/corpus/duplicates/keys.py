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
from data.document import values
from data.settings import DedupSettings
from data.shards import read_shard
from data.text import Hashes

KEYED = np.dtype([("key", "u8"), ("order", "u8"), ("row", "i8")])
Keyed = NDArray[np.void]  # of KEYED
TEXT = "text"
_ORDER = "order"
_PARTITION_ROWS = 2_000_000  # 24 bytes each, and as much again some three times while they are sorted


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
        order = id_keys(np.array(values(signed, "id"), dtype="S32"), 0)
        columns = {_ORDER: order, TEXT: signed["text_hash"].to_numpy()}
        columns |= {name: bands[:, band] for band, name in enumerate(self.bands)}
        for name, column in columns.items():
            with (self._folder / name).open("ab") as file:
                file.write(column.tobytes())
        return signed.num_rows

    def column(self, name: str) -> Hashes:
        """One key of all rows."""
        return np.fromfile(self._folder / name, np.uint64)

    def partitions(self, name: str) -> Iterator[Keyed]:
        """All rows with one of their keys, in parts: those of equal key in the same."""
        count = max(1, -(-len(self) // _PARTITION_ROWS))
        if count == 1:
            yield from self._keyed(name, max(len(self), 1))
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
