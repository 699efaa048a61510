"""Sheets for a person: blind, harmless in a spreadsheet, and read back whatever the spreadsheet made of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from data.evaluation.sheets import read_sheet, sheet_name, write_sheet
from tests.data.evaluation.test_judges import answer, pair


def sheet(folder: Path, count: int = 50) -> tuple[list[dict[str, str]], dict[str, dict[str, str]]]:
    found = [pair(answer("ppo", f"better {n}"), answer("sft", f"worse {n}"), n) for n in range(40)]
    found.append(pair(answer("ppo", "same"), answer("sft", "same "), 99))
    lines = [{"judge": "rule", "criterion": "overall", "set": one.set, "id": one.id, "model": "ppo", "value": 0.75} for one in found]
    write_sheet(found, lines, ["tone"], count, 3, folder)
    with (folder / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "sheet.key.json").read_text())


def fill(folder: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with (folder / "filled.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "filled.csv"


def test_blind_shuffled_and_the_same_twice(tmp_path: Path) -> None:
    rows, key = sheet(tmp_path / "a")
    assert len(rows) == 40 and list(rows[0]) == ["item", "prompt", "answer A", "answer B", "better", "better_tone"]
    first = sum(row["answer A"].startswith("better") for row in rows)
    assert 10 <= first <= 30  # neither side is always first
    assert [row["answer A"].split()[1] for row in rows] != [str(n) for n in range(40)]
    assert "ppo" not in (tmp_path / "a" / "sheet.csv").read_text(encoding="utf-8")
    assert key["items"]["1"]["judges"] == [{"judge": "rule", "criterion": "overall", "winner": "model"}]
    assert sheet(tmp_path / "b") == (rows, key) and len(sheet(tmp_path / "c", 7)[0]) == 7


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_what_a_person_wrote_is_read_back(tmp_path: Path, delimiter: str, encoding: str) -> None:
    rows, key = sheet(tmp_path)
    for row in rows:
        row["better"] = "A" if row["answer A"].startswith("better") else "b"
    rows[0]["better"], rows[1]["better"], rows[2]["better"], rows[3]["better"] = "平局", " Tie ", "", "both?"
    rows[0]["better_tone"] = "="
    filled = read_sheet(fill(tmp_path, rows, delimiter, encoding), key)
    assert sheet_name(tmp_path / "filled.csv") == key["sheet"]
    assert sorted(filled.winners["overall"].values()) == ["model"] * 36 + ["tie"] * 2
    assert list(filled.winners["tone"].values()) == ["tie"]
    assert filled.unreadable == [f"{rows[3]['item']}, better: 'both?'"]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "＝1", "\n=1"])
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    write_sheet([pair(answer("m", text), answer("b", 'quote " and ,'))], [], [], 1, 1, tmp_path)
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        row = next(csv.DictReader(file))
    assert {row["answer A"], row["answer B"]} == {"'" + text, 'quote " and ,'}


def test_what_is_no_sheet_is_refused(tmp_path: Path) -> None:
    rows, key = sheet(tmp_path)
    with pytest.raises(ValueError, match="stands there twice"):
        read_sheet(fill(tmp_path, [rows[0], rows[0]]), key)
    with pytest.raises(ValueError, match="is not on this sheet"):
        read_sheet(fill(tmp_path, [rows[0] | {"item": f"{key['sheet']}-77"}]), key)
    with pytest.raises(ValueError, match="items of one sheet begin alike"):
        sheet_name(fill(tmp_path, [rows[0], rows[1] | {"item": "x-1"}]))
    (tmp_path / "filled.csv").write_bytes("项目,better\n一,A".encode("gb18030"))
    with pytest.raises(ValueError, match="save it from the spreadsheet as CSV UTF-8"):
        sheet_name(tmp_path / "filled.csv")
    (tmp_path / "filled.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no columns item and better"):
        sheet_name(tmp_path / "filled.csv")
