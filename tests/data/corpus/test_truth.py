from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.corpus.truth import score_run
from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA
from data.shards import write_shard


def _score(tmp_path: Path, truth: list[dict[str, Any]], kept: dict[str, str], dropped: dict[str, str]) -> dict[str, Any]:
    empty = {"url": None, "dirt": None, "cluster": None, "private": [], "chrome": []}
    (tmp_path / "truth.jsonl").write_text("\n".join(json.dumps(empty | row) for row in truth))
    rows = [{"id": source, "source": source, "text": text} for source, text in kept.items()]
    write_shard(tmp_path / "kept", pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    rows = [{"id": source, "source": source, "reason": reason} for source, reason in dropped.items()]
    write_shard(tmp_path / "dropped", pa.Table.from_pylist(rows, DROPPED_SCHEMA))
    return score_run(tmp_path / "truth.jsonl", [tmp_path / "kept"], [tmp_path / "dropped"]).as_dict()


def test_by_hand(tmp_path: Path) -> None:
    truth: list[dict[str, Any]] = [
        {"source": "1", "private": ["a@b.c", "123"], "chrome": ["Share", "Print"]}, {"source": "2", "dirt": "spam"},
        {"source": "3", "dirt": "spam"}, {"source": "4"}, {"source": "5", "cluster": "x"},
        {"source": "6", "cluster": "x", "dirt": "copy"}, {"source": "7", "cluster": "x", "dirt": "copy"}, {"source": "8"},
    ]  # fmt: skip
    kept = {"1": "text 123 Print", "3": "spam", "6": "the copy that stayed"}
    score = _score(tmp_path, truth, kept, {"2": "perplexity", "4": "short", "5": "near_duplicate", "7": "exact_duplicate"})
    assert score["cleaning_precision"] == 3 / 4  # 2, 5, 7 of 2, 4, 5, 7
    assert score["cleaning_recall"] == 3 / 4  # 2, 5, 7 of 2, 3, 5, 7
    assert score["redaction_recall"] == 1 / 2
    assert score["chrome_removed"] == 1 / 2
    assert score["recall_by_kind"]["spam"] == 1 / 2
    assert score["wrongly_dropped"] == [{"source": "4", "reason": "short", "value": ""}]
    assert score["wrongly_kept"] == [{"source": "3", "dirt": "spam"}]
    assert score["unaccounted"] == 1


def test_a_cluster_that_went_whole_counts_one_as_clean(tmp_path: Path) -> None:
    truth = [{"source": "1", "cluster": "x"}, {"source": "2", "cluster": "x", "dirt": "copy"}]
    score = _score(tmp_path, truth, {}, {"1": "short", "2": "short"})
    assert (score["cleaning_precision"], score["cleaning_recall"]) == (0.5, 1.0)
    assert score["redaction_recall"] is None
