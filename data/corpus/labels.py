"""Label shards read beside the documents they measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from data.shards import read_shard


def read_labels(shard: Path, ids: pa.ChunkedArray, columns: list[str] | None = None) -> pa.Table:
    """Rows of a label shard in the order of `ids`.

    The shard may have more documents (some were dropped after it was measured) and another order. Raises ValueError where one
    of `ids` lacks.
    """
    return in_order(read_shard(shard, None if columns is None else ["id", *columns]), ids, shard)


def in_order(table: pa.Table, ids: pa.ChunkedArray, shard: Path) -> pa.Table:
    """What `read_labels` gives of a table that was read from `shard`."""
    if table["id"].combine_chunks().equals(ids.combine_chunks()):
        return table
    place = {label_id: row for row, label_id in enumerate(table["id"].to_pylist())}
    wanted = ids.to_pylist()
    lacking = [label_id for label_id in wanted if label_id not in place]
    if lacking:
        raise ValueError(f"{shard}: no labels of {len(lacking)} documents, {lacking[0]} among them")
    return table.take(np.array([place[label_id] for label_id in wanted], dtype=np.int64))
