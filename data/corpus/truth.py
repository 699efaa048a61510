"""How well a run cleaned a crawl whose dirt is labelled (data/samples/crawl_truth.jsonl).

Each line of the truth is one response record: {"source": "file#record", "url", "dirt": null or its kind, "cluster":
null or the name of a group of copies, "private": strings that must not survive, "chrome": lines that are no content}.
Of a cluster of n copies any one may stay: n - 1 of them are dirt, whichever stays.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.document import values
from data.shards import read_shard


@dataclass
class Score:
    """Shares from 0 to 1; null where there is nothing to measure."""

    cleaning_precision: float | None = None  # of the dropped, how much was dirt
    cleaning_recall: float | None = None  # of the dirt, how much was dropped
    redaction_recall: float | None = None  # of the private strings of kept documents, how many are gone
    chrome_removed: float | None = None  # of the chrome lines of kept documents, how many are gone
    recall_by_kind: dict[str, float] = field(default_factory=dict)
    wrongly_dropped: list[dict[str, str]] = field(default_factory=list)  # source, reason, value; at most 50
    wrongly_kept: list[dict[str, str]] = field(default_factory=list)  # source, dirt; at most 50
    unaccounted: int = 0  # records of the truth that are neither kept nor dropped

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def score_run(truth: Path, kept: Sequence[Path], dropped: Iterable[Path]) -> Score:
    """Score a run: `kept` are the corpus' document shards, `dropped` the dropped shards of all its stages."""
    records = {row["source"]: row for row in map(json.loads, filter(None, truth.read_text(encoding="utf-8").split("\n")))}
    texts: dict[str, str] = {}
    for shard in kept:
        table = read_shard(shard, ["source", "text"])
        texts.update(zip(values(table, "source"), values(table, "text"), strict=True))
    reasons: dict[str, tuple[str, str]] = {}
    for shard in dropped:
        table = read_shard(shard, ["source", "reason", "value"])
        for source, reason, value in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True):
            reasons[source] = (reason, value or "")
    return _score(records, {s: t for s, t in texts.items() if s in records}, {s: r for s, r in reasons.items() if s in records})


def _score(records: dict[str, dict[str, Any]], texts: dict[str, str], reasons: dict[str, tuple[str, str]]) -> Score:
    dirty = _dirty(records, texts)
    score = Score(unaccounted=len(records) - len(texts.keys() | reasons.keys()))
    found = [source for source in reasons if source in dirty]
    score.cleaning_precision = len(found) / len(reasons) if reasons else None
    score.cleaning_recall = len(found) / len(dirty) if dirty else None
    of_kind, found_of_kind = Counter(dirty.values()), Counter(dirty[source] for source in found)
    score.recall_by_kind = {kind: found_of_kind[kind] / count for kind, count in sorted(of_kind.items())}
    wrong = sorted(source for source in reasons if source not in dirty)
    score.wrongly_dropped = [{"source": s, "reason": reasons[s][0], "value": reasons[s][1]} for s in wrong[:50]]
    score.wrongly_kept = [{"source": s, "dirt": dirty[s]} for s in sorted(texts) if s in dirty][:50]
    score.redaction_recall = _gone(records, texts, "private")
    score.chrome_removed = _gone(records, texts, "chrome")
    return score


def _dirty(records: dict[str, dict[str, Any]], texts: dict[str, str]) -> dict[str, str]:
    """Source -> kind of dirt. Of a cluster without other dirt one record is clean: a kept one, if there is any."""
    dirty = {source: row["dirt"] for source, row in records.items() if row["dirt"] and not row["cluster"]}
    clusters: dict[str, list[str]] = {}
    for source, row in records.items():
        if row["cluster"]:
            clusters.setdefault(row["cluster"], []).append(source)
    for members in clusters.values():
        stays = min(members, key=lambda source: (source not in texts, records[source]["dirt"] is not None, source))
        for source in members:
            if source != stays:
                dirty[source] = records[source]["dirt"] or "copy"
    return dirty


def _gone(records: dict[str, dict[str, Any]], texts: dict[str, str], name: str) -> float | None:
    pairs = [(text, string) for source, text in texts.items() for string in records[source].get(name, [])]
    return sum(string not in text for text, string in pairs) / len(pairs) if pairs else None
