"""A sheet for a blind check by a person: pairs of answers in a random order, as CSV; and what the person wrote on it, read back.

Which answer is whose stands in the key, a file apart, together with what the judges said of the same pairs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.evaluation.answers import Pair
from data.instructions.lines import write_json
from data.instructions.verdicts import read_verdict

OVERALL = "overall"
_FORMULA = tuple("=+-@＝＋－＠\t\r\n")  # what a spreadsheet runs as a formula, or trims until it can (OWASP, CSV injection)


@dataclass
class Filled:
    """What a person wrote: winners ("model", "baseline", "tie") by item for each criterion; the cells that say neither A, B nor tie."""

    winners: dict[str, dict[str, str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def write_sheet(
    pairs: Sequence[Pair], verdicts: Iterable[Mapping[str, Any]], criteria: Sequence[str], count: int, seed: int, out: Path
) -> int:
    """Write `out`/sheet.csv and `out`/sheet.key.json; returns how many pairs stand on the sheet. Equal answers are left out."""
    said: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in verdicts:
        entry = {"judge": line["judge"], "criterion": line["criterion"], "winner": winner(line["value"])}
        said.setdefault((line["set"], line["id"], line["model"]), []).append(entry)
    rng = random.Random(seed)  # noqa: S311  # a shuffle, no secret
    telling = [pair for pair in pairs if pair.is_answered and (pair.model.text or "").strip() != (pair.baseline.text or "").strip()]
    chosen = rng.sample(telling, min(count, len(telling)))
    columns = ["better", *(f"better_{criterion}" for criterion in criteria)]
    rows, items = [], {}
    for number, pair in enumerate(chosen, 1):
        first = rng.choice(("model", "baseline"))
        answers = (pair.model, pair.baseline) if first == "model" else (pair.baseline, pair.model)
        rows.append([f"{number}", pair.prompt, *(answer.text or "" for answer in answers), *[""] * len(columns)])
        items[f"{number}"] = {
            "set": pair.set, "id": pair.id, "model": pair.model.model, "baseline": pair.baseline.model, "a": first,
            "judges": said.get((pair.set, pair.id, pair.model.model), []),
        }  # fmt: skip
    name = hashlib.blake2b(json.dumps([rows, items], sort_keys=True).encode(), digest_size=6).hexdigest()
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow(["item", "prompt", "answer A", "answer B", *columns])
    writer.writerows([[f"{name}-{row[0]}", *map(_harmless, row[1:])] for row in rows])
    out.mkdir(parents=True, exist_ok=True)
    # The mark at the beginning tells spreadsheets that Chinese text is UTF-8.
    (out / "sheet.csv").write_text(stream.getvalue(), encoding="utf-8-sig", newline="")
    write_json(out / "sheet.key.json", {"sheet": name, "items": items})
    return len(rows)


def sheet_name(path: Path) -> str:
    """Which sheet a filled file is, as its key names it.

    Raises:
        ValueError: the file is no such sheet, or holds rows of several.
    """
    names = {row["item"].rpartition("-")[0] for row in _rows(path)}
    if len(names) != 1 or "" in names:
        raise ValueError(f"{path}: the items of one sheet begin alike, as written by --sheet; here: {', '.join(sorted(names)) or 'none'}")
    return names.pop()


def read_sheet(path: Path, key: Mapping[str, Any]) -> Filled:
    """A filled sheet. Empty cells are no judgement; A, B, tie, 平局, = and a, b are understood.

    Raises:
        ValueError: no sheet, an item that the key does not know, or one that stands there twice.
    """
    filled, seen = Filled(), set()
    for row in _rows(path):
        item = row["item"].rpartition("-")[2]
        place = key["items"].get(item)
        if place is None or item in seen:
            raise ValueError(f"{path}: item {row['item']!r} {'stands there twice' if item in seen else 'is not on this sheet'}")
        seen.add(item)
        names = {"A": place["a"], "B": "baseline" if place["a"] == "model" else "model", "TIE": "tie"}
        for column, cell in row.items():
            if not column.startswith("better") or not (cell or "").strip():
                continue
            verdict = "TIE" if cell.strip(" '") == "=" else read_verdict(cell.upper() if len(cell.strip()) == 1 else cell)
            if verdict is None:
                filled.unreadable.append(f"{row['item']}, {column}: {cell.strip()[:40]!r}")
            else:
                filled.winners.setdefault(column.removeprefix("better").removeprefix("_") or OVERALL, {})[item] = names[verdict]
    return filled


def winner(value: float | None) -> str | None:
    """Who won a comparison whose orders were averaged; None where it failed."""
    return None if value is None else "model" if value > 0.5 else "baseline" if value < 0.5 else "tie"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            text = file.read()
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8; save it from the spreadsheet as CSV UTF-8") from None
    first = text.split("\n", 1)[0]
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), restkey="beyond", restval=""))
    if not rows or "item" not in rows[0] or "better" not in rows[0]:
        raise ValueError(f"{path}: no sheet: its first line has no columns item and better")
    return rows


def _harmless(text: str) -> str:
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
