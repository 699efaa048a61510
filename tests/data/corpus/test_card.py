from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.corpus.card import make_card, write_card
from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA
from data.settings import CardSettings
from data.shards import shard_name, write_shard

SETTINGS = CardSettings(labels=["words", "topic", "unmeasured"], bins=2, examples=2, hosts=1)


def _shards(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema, cuts: int) -> list[Path]:
    paths = []
    for index, at in enumerate(range(0, len(rows), cuts)):
        paths.append(folder / shard_name(index))
        write_shard(paths[-1], pa.Table.from_pylist(rows[at : at + cuts], schema))
    return paths


def _card(folder: Path, cuts: int) -> dict[str, Any]:
    def document(letter: str, **fields: Any) -> dict[str, Any]:
        return {"id": letter * 32, "source": f"{letter}#0", "url": "http://a.example/", "date": "2024-05-01", "lang": "en", "text": "four"} | fields

    kept = [document("a"), document("b", url="http://b.example/", lang="zh", date=None), document("c", url=None)]
    dropped = [document(letter, reason="short", value="1", text=f"{letter} | `mail` me@b.example " + "x" * 500) for letter in "defg"]
    gone = [document("h", reason="blocked_host", value="h.example", text=None, url="http://h.example/?mail=me@b.example")]
    words = [{"id": row["id"], "words": n, "topic": "tea" if n < 3 else None} for n, row in enumerate([*kept, *dropped], 1)]
    labels = pa.schema([("id", pa.string()), ("words", pa.int64()), ("topic", pa.string())])
    return make_card(
        8, _shards(folder / "kept", kept, DOCUMENT_SCHEMA, cuts),
        {"urls": _shards(folder / "urls", gone, DROPPED_SCHEMA, cuts), "corpus": _shards(folder / "dropped", dropped, DROPPED_SCHEMA, cuts)},
        {"quality": _shards(folder / "labels", words, labels, cuts)}, SETTINGS,
    )  # fmt: skip


def test_by_hand(tmp_path: Path) -> None:
    card = _card(tmp_path, 10)
    assert (card["documents_in"], card["kept"], card["characters"], card["hosts_in_all"]) == (8, 3, 12, 3)
    assert card["documents_in"] == card["kept"] + sum(drop["documents"] for drop in card["drops"])
    assert card["languages"] == [{"value": "en", "documents": 2, "share": 0.6667}, {"value": "zh", "documents": 1, "share": 0.3333}]
    assert [row["value"] for row in card["hosts"]] == ["a.example"]
    assert [row["value"] for row in card["years"]] == ["2024", "unknown"]
    assert [(drop["stage"], drop["reason"], drop["documents"], drop["share"]) for drop in card["drops"]] == [
        ("urls", "blocked_host", 1, 0.125), ("corpus", "short", 4, 0.5),
    ]  # fmt: skip
    assert card["drops"][0]["examples"] == [{"url": "http://h.example/?mail=<EMAIL>", "value": "h.example", "text": ""}]
    examples = card["drops"][1]["examples"]
    assert len(examples) == 2 and all("<EMAIL>" in found["text"] and len(found["text"]) == 161 for found in examples)
    words = card["labels"]["words"]  # kept 1 2 3, dropped 4 5 6 7
    assert words["percentiles"]["50"] == 2 and words["kept"] == [3, 0] and words["dropped"] == [0, 4]
    assert card["labels"]["topic"] == {"values": [{"value": "tea", "documents": 2, "share": 1.0}]}
    assert "unmeasured" not in card["labels"]


def test_shards_change_nothing_and_the_page_holds_no_markup_of_the_crawl(tmp_path: Path) -> None:
    card = _card(tmp_path / "one", 10)
    assert card == _card(tmp_path / "two", 2)
    write_card(card, tmp_path)
    assert json.loads((tmp_path / "card.json").read_text()) == card
    page = (tmp_path / "card.md").read_text().splitlines()
    rows = [line for line in page if line.startswith("| corpus | short")]
    assert rows[0] == "| corpus | short | 4 | 50.0% |"
    assert len(rows) == 3 and all(row.count("|") == 6 and "'mail'" in row and "<EMAIL>" in row for row in rows[1:]), "two examples"
    assert "| urls | blocked_host | `h.example` | `http://h.example/?mail=<EMAIL>` |  |" in page


def test_nothing_kept(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-00000.parquet", DOCUMENT_SCHEMA.empty_table())
    card = make_card(0, [tmp_path / "part-00000.parquet"], {}, {}, SETTINGS)
    assert card["kept"] == 0 and card["languages"] == [] and card["labels"] == {}
    write_card(card, tmp_path)
