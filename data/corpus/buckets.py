"""Head, middle and tail of each language's documents by their perplexity (CCNet, Wenzek et al. 2020, 3.3), from the scores alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.document import Counts, label_schema, values
from data.settings import BucketSettings
from data.shards import read_shard, shard_name, write_shard

BUCKET_LABELS = label_schema({"perplexity_bucket": pa.string()})  # null where nothing was measured
HEAD, MIDDLE, TAIL = "head", "middle", "tail"  # least to most surprising


def add_buckets(scores: Sequence[Path], out: Path, settings: BucketSettings) -> Counts:
    """Write out/labels/ (BUCKET_LABELS) from the shards of PERPLEXITY_LABELS (data.corpus.perplexity).

    Borders are percentiles over all documents of a language, so the labels depend on neither order nor shards. In memory are
    the scores, 12 bytes a document.
    """
    by_lang: dict[str, list[NDArray[np.float32]]] = {}
    for shard in scores:
        bits, langs = _columns(read_shard(shard))
        for lang in sorted(set(langs.tolist()) - {""}):
            by_lang.setdefault(lang, []).append(bits[langs == lang])
    wanted = [settings.head_percentile, settings.tail_percentile]
    borders = {lang: np.percentile(np.concatenate(parts).astype(np.float64), wanted) for lang, parts in by_lang.items()}
    rows = 0
    for index, shard in enumerate(scores):
        table = read_shard(shard)
        bits, langs = _columns(table)
        buckets = np.full(len(bits), None, dtype=object)
        for lang, (head, tail) in borders.items():
            own = langs == lang
            buckets[own] = np.where(bits[own] < head, HEAD, np.where(bits[own] < tail, MIDDLE, TAIL))
        write_shard(out / "labels" / shard_name(index), pa.table([table["id"].combine_chunks(), pa.array(buckets, pa.string())], schema=BUCKET_LABELS))
        rows += len(bits)
    return Counts(rows, rows)


def _columns(scores: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Bits (NaN where there are none) and language of the model ("" where there is none)."""
    bits = np.array(values(scores, "bits_per_character"), dtype=np.float32)
    return bits, np.array([lang or "" for lang in values(scores, "perplexity_lang")], dtype=object)
