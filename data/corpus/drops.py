"""What a stage dropped, by reason, and which of it a person is shown: always the same documents, whatever their order and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpus.personal_data import redact
from data.corpus.sampling import id_keys
from data.document import id_bytes, values
from data.shards import read_shard

Place = tuple[Path, int]  # shard and row


@dataclass(frozen=True)
class Drop:
    """One reason, how many documents it has, and where some of them lie."""

    reason: str
    documents: int
    examples: list[Place]


def drops_of(shards: Sequence[Path], examples: int, seed: int = 0) -> list[Drop]:
    """The reasons of dropped shards, the commonest first, with the documents of smallest key; another seed shows others."""
    counts: Counter[str] = Counter()
    chosen: dict[str, list[tuple[int, str, Place]]] = {}
    for shard in shards:
        table = read_shard(shard, ["id", "source", "reason"])
        reasons = values(table, "reason")
        counts.update(reasons)
        keys = id_keys(id_bytes(table), seed).tolist()
        sources = values(table, "source")
        for reason in set(reasons):
            here = [(key, sources[row], (shard, row)) for row, key in enumerate(keys) if reasons[row] == reason]
            chosen[reason] = sorted([*chosen.get(reason, []), *here], key=lambda item: item[:2])[:examples]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Drop(reason, count, [place for _, _, place in chosen[reason]]) for reason, count in ranked]


def shown(place: Place, characters: int, lines: bool = False) -> dict[str, Any]:
    """URL, measured value and the beginning of the text of a dropped document, personal data redacted; on one line unless `lines`."""
    shard, row = place
    found = read_shard(shard, ["url", "value", "text"]).slice(row, 1).to_pylist()[0]
    text = (found["text"] or "")[: characters * 4]
    text = redact(text if lines else " ".join(text.split()))
    cut = text[:characters]
    return {"url": redact(found["url"] or "") or None, "value": found["value"], "text": cut + "…" if len(text) > len(cut) else cut}
