"""The one place where labels become decisions: rules, duplicates, sampling, personal data; the corpus in canonical order.

In memory lie one shard, one part of the corpus that is sorted, and of each document some numbers: the rule it breaks, what was measured
there and what robust rules measure (15 bytes without these), with a balance its value and order (12 bytes more).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.canonical import part_borders, sample_step, write_sorted
from data.corpus.duplicates.copies import Copies, Found
from data.corpus.duplicates.index import CHANGED, COMPARISON
from data.corpus.labels import in_order, read_labels
from data.corpus.measured import OF_DOCUMENTS
from data.corpus.personal_data import MARKS, redact
from data.corpus.rules import Broken, RuleBook, numbers
from data.corpus.sampling import Sampled, Samplings
from data.corpus.url.form import host_of
from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA, Counts, Verdict, decide, id_bytes, values
from data.settings import PersonalDataAction, Rule, SelectionSettings
from data.shards import decoded_bytes, read_known_columns, read_shard
from data.text import cut_at_sentence


@dataclass(frozen=True)
class Selected:
    """What a selection did: documents counted, and how many of the kept texts were changed."""

    counts: Counts
    redacted: int
    cut: int


def select(
    documents: Sequence[Path],
    labels: Mapping[str, Sequence[Path]],
    out: Path,
    settings: SelectionSettings,
    signatures: Sequence[Path] | None = None,
    comparison: str = "",
) -> Selected:
    """Write out/documents/ and out/dropped/, both sorted by id in shards of `shard_documents`.

    `labels` holds, by any name, the label shards of each measuring stage, in the order of `documents`. A rule over a
    label that nobody measured raises ValueError. Reasons: those of the rules, personal_data, earlier_duplicate,
    exact_duplicate and near_duplicate (value: id of the copy that stays), balance (value: the label's). With
    `signatures`, the shards that duplicates were found by, out/index/ keeps those of the kept documents; `comparison` (data.corpus.duplicates.index)
    goes with it.
    The bytes written depend on neither order nor shards.
    """
    for name, shards in labels.items():
        if len(shards) != len(documents):
            raise ValueError(f"labels {name!r} have {len(shards)} shards, the documents {len(documents)}")
    actions = _actions(settings)
    rules = [*settings.rules, *_personal_data_rules(actions)]
    out.mkdir(parents=True, exist_ok=True)
    rows, size = sum(pq.read_metadata(shard).num_rows for shard in documents), sum(map(decoded_bytes, documents))
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as work:
        book, copies, samplings = RuleBook(rules), Copies(settings, Path(work), rows), Samplings(settings.balance, settings.seed)
        wanted = {rule.label for rule in rules} | {balance.label for balance in settings.balance} | copies.columns | {"lang"} | actions.keys()
        personal: list[NDArray[np.bool_]] = []
        sample, seen, step = [np.zeros(0, "S32")], 0, sample_step(rows, size)  # of the ids
        for index, shard in enumerate(documents):
            measured = _measured(shard, [shards[index] for shards in labels.values()], wanted)
            book.add(measured)
            if not settings.keep_duplicates:
                copies.add(measured)
            samplings.add(measured)
            personal.append(_has_personal_data(measured, actions))
            sample.append(id_bytes(measured)[-seen % step :: step])
            seen += measured.num_rows
        broken = book.decide()
        found = copies.find(broken.rule < 0)
    stays = broken.rule < 0
    stays[found.rows] = False
    verdicts = _Verdicts(broken, found, samplings.decide(stays))
    del book, copies, samplings  # the labels of all documents
    index_schema = None
    if signatures:
        index_schema = pq.read_schema(signatures[0]).append(pa.field(CHANGED, pa.bool_())).with_metadata({COMPARISON: comparison})
    writing = _Writing(documents, labels, signatures or [], index_schema, settings, actions, stays, verdicts, personal)
    return writing.write(out, part_borders(np.concatenate(sample), size))


@dataclass(frozen=True)
class _Verdicts:
    """Why documents go."""

    broken: Broken
    copies: Found  # of documents that break no rule
    sampled: Sampled  # of the others

    def of(self, row: int) -> Verdict | None:
        """None for a document that stays."""
        return self.broken.verdict(row) or self.copies.verdict(row) or self.sampled.verdict(row)

    def counts(self) -> dict[str, int]:
        reasons = Counter(self.copies.counts()) + Counter(self.sampled.counts())
        broken = np.bincount(self.broken.rule[self.broken.rule >= 0], minlength=len(self.broken.rules))
        for rule, count in zip(self.broken.rules, broken.tolist(), strict=True):
            reasons[rule.reason] += count
        return {reason: count for reason, count in sorted(reasons.items()) if count}


def _measured(shard: Path, label_shards: Sequence[Path], wanted: set[str]) -> pa.Table:
    """The ids of a shard's documents and their labels, of which only the wanted ones are read."""
    derived = [name for name in OF_DOCUMENTS if name in wanted]
    own = read_shard(shard, ["id", *dict.fromkeys(OF_DOCUMENTS[name] for name in derived)])
    table = own.select(["id"])
    for path in label_shards:
        found = read_known_columns(path, {"id", *wanted})
        names = [name for name in found.column_names if name != "id"]
        if doubled := [name for name in names if name in table.column_names]:
            raise ValueError(f"two stages measure {doubled[0]!r}")
        if names:
            found = in_order(found, table["id"], path)
        for name in names:
            table = table.append_column(name, found[name])
    for name in derived:
        if name not in table.schema.names:
            table = table.append_column(name, _of_documents(name, values(own, OF_DOCUMENTS[name])))
    return table


def _of_documents(name: str, column: list[str | None]) -> pa.Array:
    if name == "year":
        return pa.array([int(date[:4]) if date and date[:4].isdigit() else None for date in column], pa.int32())
    if name == "host":
        return pa.array([host_of(url or "") or None for url in column], pa.string())
    return pa.array(column, pa.string())


def _actions(settings: SelectionSettings) -> dict[str, PersonalDataAction]:
    """What is done with each kind of personal data."""
    given = settings.personal_data
    return {kind: given if isinstance(given, str) else given.get(kind, "redact") for kind in MARKS}  # type: ignore[call-overload]


def _personal_data_rules(actions: Mapping[str, PersonalDataAction]) -> list[Rule]:
    return [Rule(reason="personal_data", label=kind, max=0) for kind, action in actions.items() if action == "drop"]


def _has_personal_data(measured: pa.Table, actions: Mapping[str, PersonalDataAction]) -> NDArray[np.bool_]:
    """Of each document whether there is anything to redact; where no stage has looked for it, there may be in all."""
    kinds = [kind for kind, action in actions.items() if action == "redact"]
    if not set(kinds) <= set(measured.schema.names):
        return np.ones(measured.num_rows, dtype=np.bool_)
    counts = [numbers(measured, kind) for kind in kinds]
    return np.any(counts, axis=0) if counts else np.zeros(measured.num_rows, dtype=np.bool_)


@dataclass
class _Writing:
    """One pass over the documents that writes what was decided."""

    documents: Sequence[Path]
    labels: Mapping[str, Sequence[Path]]
    signatures: Sequence[Path]
    index_schema: pa.Schema | None
    settings: SelectionSettings
    actions: Mapping[str, PersonalDataAction]
    stays: NDArray[np.bool_]
    verdicts: _Verdicts  # of those that do not
    personal: Sequence[NDArray[np.bool_]]  # shard by shard: documents with something to redact
    redacted: int = 0
    cut: int = 0

    def write(self, out: Path, borders: NDArray[np.bytes_]) -> Selected:
        outputs = [(out / "documents", DOCUMENT_SCHEMA), (out / "dropped", DROPPED_SCHEMA)]
        if self.index_schema:
            outputs.append((out / "index", self.index_schema))
        self._starts = np.cumsum([0, *map(len, self.personal)]).tolist()
        write_sorted(len(self.documents), self._split, outputs, borders, self.settings.shard_documents)
        counts = Counts(len(self.stays), int(self.stays.sum()), self.verdicts.counts())
        counts.check()
        return Selected(counts, self.redacted, self.cut)

    def _split(self, index: int) -> list[pa.Table]:
        """Kept and dropped rows of one shard, and signatures of the kept, as they will be written."""
        table = _with_language(read_shard(self.documents[index]), [shards[index] for shards in self.labels.values()])
        start, stop = self._starts[index : index + 2]
        stays = self.stays[start:stop]
        decided = decide(table, [None if stay else self.verdicts.of(row) for row, stay in enumerate(stays.tolist(), start)])
        column: Any = decided.kept["text"].combine_chunks()
        texts, changed = self._finished_texts(column, self.personal[index][stays])
        kept = decided.kept.set_column(table.schema.get_field_index("text"), DOCUMENT_SCHEMA.field("text"), texts)
        found = [kept.cast(DOCUMENT_SCHEMA), decided.dropped]
        if self.index_schema:
            signed = read_shard(self.signatures[index]).filter(pa.array(stays))
            found.append(signed.append_column(CHANGED, pa.array(changed)))
        return found

    def _finished_texts(self, texts: pa.StringArray, personal: NDArray[np.bool_]) -> tuple[pa.Array, NDArray[np.bool_]]:
        """The kept texts as they will be written, and which of them are others now."""
        looked_at = personal.copy()
        if self.settings.max_characters is not None:
            lengths = pc.utf8_length(texts)
            looked_at |= lengths.to_numpy(zero_copy_only=False) > self.settings.max_characters
        given: list[Any] = texts.filter(pa.array(looked_at)).to_pylist()
        finished = list(map(self._finished, given, personal[looked_at].tolist()))
        changed = looked_at.copy()
        changed[looked_at] = [one != other for one, other in zip(given, finished, strict=True)]
        return pc.replace_with_mask(texts, pa.array(looked_at), pa.array(finished, pa.string())), changed

    def _finished(self, text: str, has_personal_data: bool) -> str:
        kinds = [kind for kind, action in self.actions.items() if action == "redact"]
        finished = redact(text, kinds) if has_personal_data else text
        self.redacted += finished != text
        limit = self.settings.max_characters
        if limit is not None and len(finished) > limit:
            finished = cut_at_sentence(finished, limit)
            self.cut += 1
        return finished


def _with_language(table: pa.Table, label_shards: Sequence[Path]) -> pa.Table:
    """`lang` as the language labels say it."""
    for path in label_shards:
        if "lang" in pq.read_schema(path).names:
            found = read_labels(path, table["id"], ["lang"])["lang"]
            return table.set_column(table.schema.get_field_index("lang"), DOCUMENT_SCHEMA.field("lang"), found)
    return table
