"""A mapped stage: what was done before a kill is not done again, and what must see everything sees it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data.corpus.shard_work import run_label
from data.document import DOCUMENT_SCHEMA, Counts, values
from data.settings import QualitySettings
from data.shards import list_shards, read_shard, shard_name, write_shard
from tasks import mapping
from tasks.mapping import mapped, result_of
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Result


def _documents(run: Run) -> Made:
    def build(draft: Draft) -> Result:
        for index in range(3):
            rows = [{"id": f"{index}{n}", "source": "a#0", "text": "x" * n} for n in range(4)]
            write_shard(draft.out / "documents" / shard_name(index), pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
        return Result({"documents_in": 12, "kept": 12, "dropped": {}}, {})

    found: Made = make(run, "documents", 1, QualitySettings(), {}, build).data  # type: ignore[assignment]
    return found


def test_a_stage_killed_in_its_last_step_maps_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(store=str(tmp_path / "store"))
    documents, calls, ends = _documents(run), [], []

    def lengths(table: pa.Table, settings: QualitySettings, *, start: int) -> pa.Table:
        calls.append(table.num_rows)
        return pa.table({"id": table["id"], "length": [start + len(text) for text in values(table, "text")]})

    def last_step(counts: Counts) -> Result:
        ends.append(counts.kept)
        if len(ends) == 1:
            raise KeyboardInterrupt
        return result_of(counts)

    monkeypatch.setattr(mapping, "result_of", last_step)

    def stage() -> Made:
        found: Made = mapped(
            run, "lengths", 1, documents, run_label, lengths, QualitySettings(), prepare=lambda shards, work: {"start": len(shards)}
        ).data  # type: ignore[assignment]
        return found

    with pytest.raises(KeyboardInterrupt):
        stage()
    made = stage()
    assert calls == [4, 4, 4] and ends == [12, 12] and not made.reused
    shards = list_shards(run.local(made.artifact) / "labels")
    assert [read_shard(shard)["length"].to_pylist() for shard in shards] == [[3, 4, 5, 6]] * 3
    assert stage().reused and calls == [4, 4, 4]
