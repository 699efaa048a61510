"""The one place where labels become decisions: rules, duplicates, personal data; the corpus in canonical order.

What lies in memory is one row of numbers per document (about 150 bytes), never the texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.canonical import write_sorted
from data.corpus.labels import read_labels
from data.corpus.personal_data import redact
from data.corpus.rules import Broken, RuleBook, numbers
from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA, Counts, values
from data.settings import Rule, SelectionSettings
from data.shards import read_shard

_DUPLICATE_COLUMNS = ("exact_cluster", "duplicate_cluster")


def select(
    documents: Sequence[Path], labels: Mapping[str, Sequence[Path]], out: Path, settings: SelectionSettings
) -> Counts:
    """Write out/documents/ and out/dropped/, both sorted by id in shards of `shard_documents`.

    `labels` holds, by any name, the label shards of each measuring stage, in the order of `documents`. A rule over a
    label that nobody measured raises ValueError. Reasons: those of the rules, personal_data, exact_duplicate and
    near_duplicate (value: id of the copy that stays). The bytes written depend on neither order nor shards.
    """
    for name, shards in labels.items():
        if len(shards) != len(documents):
            raise ValueError(f"labels {name!r} have {len(shards)} shards, the documents {len(documents)}")
    rules = list(settings.rules)
    if settings.personal_data == "drop":
        rules.append(Rule(reason="personal_data", label="personal_data", max=0))
    book = RuleBook(rules)
    clusters = _Clusters(settings)
    sizes: list[int] = []
    for index, shard in enumerate(documents):
        measured = _measured(shard, [shards[index] for shards in labels.values()])
        book.add(measured)
        clusters.add(measured)
        sizes.append(measured.num_rows)
    broken = book.decide()
    copies = {} if settings.keep_duplicates else clusters.copies(broken.rule < 0)
    return _write(documents, labels, out, settings, broken, copies, book.rules, sizes)


def _measured(shard: Path, label_shards: Sequence[Path]) -> pa.Table:
    """Documents without their text, and all their labels."""
    table = read_shard(shard, ["id", "source"])
    for path in label_shards:
        found = read_labels(path, table["id"])
        for name in found.schema.names:
            if name == "id":
                continue
            if name in table.schema.names:
                raise ValueError(f"two stages measure {name!r}")
            table = table.append_column(name, found[name])
    return table


class _Clusters:
    """Which copy of a cluster stays: best source, most of the preferred label, smallest id."""

    def __init__(self, settings: SelectionSettings) -> None:
        self._settings = settings
        self._names = {pattern: rank for rank, pattern in enumerate(settings.source_priority)}
        self._columns: dict[str, list[NDArray]] = {name: [] for name in ("id", "priority", "liked", *_DUPLICATE_COLUMNS)}

    def add(self, measured: pa.Table) -> None:
        if _DUPLICATE_COLUMNS[1] not in measured.schema.names:
            return
        liked = np.zeros(measured.num_rows)
        if self._settings.prefer and self._settings.prefer in measured.schema.names:
            liked = np.nan_to_num(numbers(measured, self._settings.prefer))
        priority = np.array([self._priority(source) for source in values(measured, "source")], dtype=np.int32)
        for name, column in (("priority", priority), ("liked", -liked)):
            self._columns[name].append(column)
        for name in ("id", *_DUPLICATE_COLUMNS):
            self._columns[name].append(np.array(measured[name].to_pylist(), dtype="S32"))

    def _priority(self, source: str) -> int:
        ranks = [rank for pattern, rank in self._names.items() if fnmatchcase(source, pattern)]
        return min(ranks, default=len(self._names))

    def copies(self, survives: NDArray[np.bool_]) -> dict[int, tuple[str, str]]:
        """Row -> reason and the id that stays, for the copies among the rows that survive."""
        if not self._columns["id"]:
            return {}
        every = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        rows = np.flatnonzero(survives)
        cluster = every["duplicate_cluster"][rows]
        keys = (rows, every["id"][rows], every["liked"][rows], every["priority"][rows], cluster)
        rows = rows[np.lexsort(keys)]
        cluster = every["duplicate_cluster"][rows]
        first = np.concatenate([[True], cluster[1:] != cluster[:-1]]) if len(rows) else np.zeros(0, np.bool_)
        head = rows[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))] if len(rows) else rows
        copies: dict[int, tuple[str, str]] = {}
        for row, keeper in zip(rows[~first].tolist(), head[~first].tolist(), strict=True):
            exact = every["exact_cluster"][row] == every["exact_cluster"][keeper]
            copies[row] = ("exact_duplicate" if exact else "near_duplicate", every["id"][keeper].decode("ascii"))
        return copies


def _write(
    documents: Sequence[Path],
    labels: Mapping[str, Sequence[Path]],
    out: Path,
    settings: SelectionSettings,
    broken: Broken,
    copies: Mapping[int, tuple[str, str]],
    rules: Sequence[Rule],
    sizes: Sequence[int],
) -> Counts:
    reasons: Counter[str] = Counter()
    starts = np.cumsum([0, *sizes]).tolist()

    def split(index: int) -> tuple[pa.Table, pa.Table]:
        """Kept and dropped rows of one shard, as they will be written."""
        table = read_shard(documents[index])
        table = _with_language(table, [shards[index] for shards in labels.values()])
        span = range(starts[index], starts[index + 1])
        verdicts: list[tuple[str, str | None] | None] = []
        for row in span:
            rule = int(broken.rule[row])
            if rule >= 0:
                verdicts.append((rules[rule].reason, f"{broken.value[row]:.6g}"))
            else:
                verdicts.append(copies.get(row))
        kept = pa.array([verdict is None for verdict in verdicts], pa.bool_())
        given = [verdict for verdict in verdicts if verdict is not None]
        dropped = table.filter(pc.invert(kept))
        dropped = dropped.append_column("reason", pa.array([reason for reason, _ in given], pa.string()))
        dropped = dropped.append_column("value", pa.array([value for _, value in given], pa.string()))
        stays = table.filter(kept)
        if settings.personal_data == "redact":
            texts = pa.array([redact(text) for text in values(stays, "text")], pa.string())
            stays = stays.set_column(stays.schema.get_field_index("text"), DOCUMENT_SCHEMA.field("text"), texts)
        return stays.cast(DOCUMENT_SCHEMA), dropped.cast(DROPPED_SCHEMA)

    kept_ids: list[bytes] = []
    dropped_ids: list[bytes] = []
    for index, shard in enumerate(documents):
        for row, document_id in enumerate(values(read_shard(shard, ["id"]), "id"), starts[index]):
            gone = int(broken.rule[row]) >= 0 or row in copies
            (dropped_ids if gone else kept_ids).append(document_id.encode())
            if gone:
                rule = int(broken.rule[row])
                reasons[rules[rule].reason if rule >= 0 else copies[row][0]] += 1
    weight = sum(shard.stat().st_size for shard in documents)
    outputs = [
        (out / "documents", DOCUMENT_SCHEMA, np.array(kept_ids, dtype="S32")),
        (out / "dropped", DROPPED_SCHEMA, np.array(dropped_ids, dtype="S32")),
    ]
    write_sorted(len(documents), split, outputs, settings.shard_documents, weight)
    counts = Counts(starts[-1], len(kept_ids), dict(sorted(reasons.items())))
    counts.check()
    return counts


def _with_language(table: pa.Table, label_shards: Sequence[Path]) -> pa.Table:
    """`lang` as the language labels say it."""
    for path in label_shards:
        if "lang" in pq.read_schema(path).names:
            found = read_labels(path, table["id"], ["lang"])["lang"]
            return table.set_column(table.schema.get_field_index("lang"), DOCUMENT_SCHEMA.field("lang"), found)
    return table
