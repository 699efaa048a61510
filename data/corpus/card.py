"""The corpus card: what a corpus is made of and what was left out, in counts, shares, distributions and examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.corpus.drops import drops_of, shown
from data.corpus.lookup import look_up
from data.corpus.sampling import id_keys
from data.corpus.url.form import host_of
from data.document import id_bytes, values
from data.settings import CardSettings
from data.shards import read_shard
from data.text import Hashes

Shards = Sequence[Path]
Column = tuple[list[Any], NDArray[np.bool_]]  # a label's values in one shard, and whether their documents were kept
_PERCENTILES = (5, 25, 50, 75, 95)


def make_card(
    documents_in: int, kept: Shards, dropped: Mapping[str, Shards], labels: Mapping[str, Shards], settings: CardSettings
) -> dict[str, Any]:
    """The card as plain values; shares are of the kept documents, of drops and of `documents_in` what came in.

    `kept` are the corpus' document shards, `dropped` the dropped shards by stage in the order of the stages, `labels` the
    label shards by stage. Memory: some 30 bytes a document, never its text.
    """
    keys, tallies, characters = _kept(kept)
    total = len(keys)
    return {
        "documents_in": documents_in,
        "kept": total,
        "characters": characters,
        "languages": _shares(tallies["lang"], total, None),
        "hosts": _shares(tallies["host"], total, settings.hosts),
        "hosts_in_all": len(tallies["host"]),
        "years": _shares(tallies["year"], total, None, by_name=True),
        "drops": [drop for stage, shards in dropped.items() for drop in _drops(stage, shards, documents_in, settings)],
        "labels": _labels(labels, keys, settings),
    }


def write_card(card: Mapping[str, Any], out: Path) -> None:
    """out/card.json and, for reading, out/card.md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "card.json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "card.md").write_text(_page(card), encoding="utf-8")


def _kept(shards: Shards) -> tuple[Hashes, dict[str, Counter[str]], int]:
    """Hashes of the kept documents' ids, sorted; how often each language, host and year; characters in all."""
    tallies: dict[str, Counter[str]] = {"lang": Counter(), "host": Counter(), "year": Counter()}
    keys = [np.zeros(0, np.uint64)]
    characters = 0
    for shard in shards:
        table = read_shard(shard, ["id", "url", "date", "lang", "text"])
        keys.append(_keys(table))
        characters += pc.sum(pc.utf8_length(table["text"])).as_py() or 0
        tallies["lang"].update(lang or "unknown" for lang in values(table, "lang"))
        tallies["host"].update(host_of(url or "") or "none" for url in values(table, "url"))
        tallies["year"].update((date or "")[:4] or "unknown" for date in values(table, "date"))
    every = np.concatenate(keys)
    every.sort()
    return every, tallies, int(characters)


def _keys(table: pa.Table) -> Hashes:
    """8 bytes for an id of 32: among a billion ids hardly one is taken for another."""
    return id_keys(id_bytes(table), 0)


def _shares(tally: Counter[str], total: int, most: int | None, by_name: bool = False) -> list[dict[str, Any]]:
    order = sorted(tally.items(), key=lambda item: item[0] if by_name else (-item[1], item[0]))
    return [{"value": name, "documents": count, "share": _share(count, total)} for name, count in order[:most]]


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def _drops(stage: str, shards: Shards, documents_in: int, settings: CardSettings) -> list[dict[str, Any]]:
    """Reasons of a stage, the commonest first, with some of their documents."""
    return [
        {
            "stage": stage,
            "reason": drop.reason,
            "documents": drop.documents,
            "share": _share(drop.documents, documents_in),
            "examples": [shown(place, settings.example_characters) for place in drop.examples],
        }
        for drop in drops_of(shards, settings.examples)
    ]


def _labels(labels: Mapping[str, Shards], kept: Hashes, settings: CardSettings) -> dict[str, Any]:
    """Distribution of each label that is asked for and measured: among the kept, and among those measured and dropped."""
    found: dict[str, Any] = {}
    for shards in labels.values():
        schema = pq.read_schema(shards[0]) if shards else pa.schema([])
        for name in (name for name in settings.labels if name in schema.names):
            of_label = _of_text if pa.types.is_string(schema.field(name).type) else _of_numbers
            found[name] = of_label((_column(shard, name, kept) for shard in shards), settings)
    return {name: found[name] for name in settings.labels if found.get(name)}


def _column(shard: Path, name: str, kept: Hashes) -> Column:
    table = read_shard(shard, ["id", name])
    return values(table, name), look_up(_keys(table), kept)[1]


def _of_text(columns: Iterable[Column], settings: CardSettings) -> dict[str, Any]:
    tally: Counter[str] = Counter()
    for column, stays in columns:
        tally.update(value for value, stay in zip(column, stays.tolist(), strict=True) if stay and value is not None)
    return {"values": _shares(tally, tally.total(), 50)} if tally else {}


def _of_numbers(columns: Iterable[Column], settings: CardSettings) -> dict[str, Any]:
    parts = [(np.array(column, dtype=np.float64), stays) for column, stays in columns]
    return _histogram(np.concatenate([column for column, _ in parts]), np.concatenate([stays for _, stays in parts]), settings.bins)


def _histogram(measure: NDArray[np.float64], stays: NDArray[np.bool_], bins: int) -> dict[str, Any]:
    """Percentiles of the kept, and a histogram of both between the 1st and 99th percentile; the ends hold what is beyond."""
    known = ~np.isnan(measure)
    if not (known & stays).any():
        return {}
    low, high = np.percentile(measure[known], [1, 99])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    clipped = np.clip(measure, edges[0], edges[-1])
    return {
        "percentiles": {str(p): float(f"{value:.6g}") for p, value in zip(_PERCENTILES, np.percentile(measure[known & stays], _PERCENTILES), strict=True)},
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "kept": np.histogram(clipped[known & stays], edges)[0].tolist(),
        "dropped": np.histogram(clipped[known & ~stays], edges)[0].tolist(),
    }


def _page(card: Mapping[str, Any]) -> str:
    lines = ["# Corpus card", "", f"{card['kept']:,} of {card['documents_in']:,} documents kept, {card['characters']:,} characters, {card['hosts_in_all']:,} hosts.", ""]
    for title in ("languages", "hosts", "years"):
        lines += [f"## {title.capitalize()}", "", "| | documents | share |", "|---|---:|---:|"]
        lines += [f"| {_cell(row['value'])} | {row['documents']:,} | {row['share']:.1%} |" for row in card[title]]
        lines.append("")
    lines += ["## What was dropped, and why", "", "| stage | reason | documents | share |", "|---|---|---:|---:|"]
    lines += [f"| {drop['stage']} | {drop['reason']} | {drop['documents']:,} | {drop['share']:.1%} |" for drop in card["drops"]]
    lines += ["", "## Some of what was dropped", "", "`python -m data.corpus.look ARTIFACT` shows more, and whole texts.", "", "| stage | reason | measured | address | text |", "|---|---|---|---|---|"]
    for drop in card["drops"]:
        for example in drop["examples"]:
            cells = [_cell(part) if part else "" for part in (example["value"], example["url"], example["text"])]
            lines.append(f"| {drop['stage']} | {drop['reason']} | " + " | ".join(cells) + " |")
    lines += ["", "## Labels of the kept", "", "| label | 5% | 25% | 50% | 75% | 95% |", "|---|---:|---:|---:|---:|---:|"]
    numbers = {name: label["percentiles"] for name, label in card["labels"].items() if "percentiles" in label}
    lines += [f"| {name} | " + " | ".join(f"{value:g}" for value in row.values()) + " |" for name, row in numbers.items()]
    for name, label in card["labels"].items():
        if "values" in label:
            lines += ["", f"{name}: " + ", ".join(f"{_cell(row['value'])} {row['share']:.1%}" for row in label["values"])]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of the crawl in a table of Markdown: as code, so that nothing in it is markup."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "¦").split())[:120] + "`"
