from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.canonical import part_borders, write_sorted
from data.corpus.duplicates.copies import Copies
from data.corpus.labels import read_labels
from data.corpus.quality import measure
from data.corpus.rules import RuleBook
from data.corpus.selection import Selected, select
from data.corpus.sensitive import sensitive_labels
from data.document import DOCUMENT_SCHEMA, Counts
from data.settings import Balance, Rule, SelectionSettings, SensitiveSettings
from data.shards import write_shard
from tests.data.corpus.helpers import read_all

RULES = [
    Rule(reason="short", label="words", min=3),
    Rule(reason="odd", label="bits", max_mads=3, min_spread=0.1),
    Rule(reason="english_only", label="score", max=0.5, languages=["en"]),
]
# id, text, lang, words, bits, score, exact cluster, duplicate cluster
ROWS: list[tuple[Any, ...]] = [
    ("a", "one", "en", 1, 2.0, 0.0, "a", "a"), ("b", "two b@c.example", "en", 9, 2.1, 0.0, "b", "b"), ("c", "three", "en", 8, 9.0, 0.0, "c", "c"),
    ("d", "four", "en", 7, 2.2, 0.9, "d", "d"), ("e", "five", "zh", 7, 5.0, 0.9, "e", "e"), ("f", "copy", "en", 5, 2.0, 0.0, "f", "f"),
    ("g", "copy", "en", 5, 2.0, 0.0, "f", "f"), ("h", "copy+", "en", 6, 2.0, 0.0, "h", "f"), ("i", "copy", "en", 2, 2.0, 0.0, "f", "f"),
    ("j", "null", None, 4, None, None, "j", "j"),
]  # fmt: skip


def _run(folder: Path, rows: list[tuple[Any, ...]], cuts: list[int], config: SelectionSettings) -> Counts:
    return _select(folder, rows, cuts, config).counts


def _select(folder: Path, rows: list[tuple[Any, ...]], cuts: list[int], config: SelectionSettings) -> Selected:
    shards, measures, duplicates, signed = [], [], [], []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        part = rows[start:stop]
        ids = [row[0] * 32 for row in part]
        table = [
            {"id": i, "source": f"{r[0]}.jsonl#0", "text": r[1], "url": f"http://{r[0]}.example/", "date": f"202{len(r[1]) % 3}-05-01"}
            for i, r in zip(ids, part, strict=True)
        ]
        name = f"part-{number:05d}.parquet"
        write_shard(folder / "d" / name, pa.Table.from_pylist(table, DOCUMENT_SCHEMA))
        lang, words, bits, score = ([row[at] for row in part] for at in range(2, 6))
        labels = {"id": ids, "lang": pa.array(lang, pa.string()), "words": words, "bits": pa.array(bits, pa.float32())}
        write_shard(folder / "m" / name, pa.table({**labels, "score": pa.array(score, pa.float32())}))
        clusters = [pa.array([row[at] * 32 for row in part], pa.string()) for at in (6, 7)]
        write_shard(folder / "c" / name, pa.table({"id": ids, "exact_cluster": clusters[0], "duplicate_cluster": clusters[1]}))
        write_shard(folder / "s" / name, pa.table({"id": pa.array(ids, pa.string()), "band_0": pa.array(words, pa.uint64())}))
        for found, kind in ((shards, "d"), (measures, "m"), (duplicates, "c"), (signed, "s")):
            found.append(folder / kind / name)
    return select(shards, {"measures": measures, "duplicates": duplicates}, folder / "out", config, signed)


def _reasons(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["id"][0]: (row["reason"], row["value"]) for row in read_all(folder / "out/dropped")}


def test_first_broken_rule_names_the_drop(tmp_path: Path) -> None:
    counts = _run(tmp_path, ROWS, [4], SelectionSettings(rules=RULES))
    assert _reasons(tmp_path) == {
        "a": ("short", "1"), "c": ("odd", "9"), "d": ("english_only", "0.9"), "i": ("short", "2"),
        "f": ("near_duplicate", "h" * 32), "g": ("near_duplicate", "h" * 32),
    }  # fmt: skip
    assert counts == Counts(10, 4, {"english_only": 1, "near_duplicate": 2, "odd": 1, "short": 2})
    kept = read_all(tmp_path / "out/documents")
    assert [(row["id"][0], row["lang"], row["text"]) for row in kept] == [
        ("b", "en", "two <EMAIL>"), ("e", "zh", "five"), ("h", "en", "copy+"), ("j", None, "null"),
    ]  # fmt: skip


def test_which_copy_stays(tmp_path: Path) -> None:
    by_id = SelectionSettings(rules=RULES, prefer=None)
    _run(tmp_path / "id", ROWS, [], by_id)
    assert _reasons(tmp_path / "id")["g"] == ("exact_duplicate", "f" * 32)
    by_source = SelectionSettings(rules=RULES, source_priority=["g.*"])
    _run(tmp_path / "source", ROWS, [], by_source)
    assert _reasons(tmp_path / "source")["h"] == ("near_duplicate", "g" * 32)
    assert _run(tmp_path / "all", ROWS, [], SelectionSettings(rules=RULES, keep_duplicates=True)).kept == 6


@settings(deadline=None, max_examples=12)
@given(order=st.permutations(range(len(ROWS))), cuts=st.lists(st.integers(0, len(ROWS)), max_size=3).map(sorted))
def test_the_same_bytes_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[int]
) -> None:
    balance = [Balance(label="words", edges=[6.5], shares={"<6.5": 1, ">=6.5": 1})]
    config = SelectionSettings(rules=RULES, balance=balance, shard_documents=3)
    one, other = (tmp_path_factory.mktemp("selection") for _ in range(2))
    assert _run(one, ROWS, [], config) == _run(other, [ROWS[at] for at in order], cuts, config)
    for kind in ("documents", "dropped", "index"):
        files = sorted((one / "out" / kind).iterdir())
        assert [path.name for path in files] == [path.name for path in sorted((other / "out" / kind).iterdir())]
        assert all(path.read_bytes() == (other / "out" / kind / path.name).read_bytes() for path in files)


def test_index_keeps_what_the_kept_were_compared_by(tmp_path: Path) -> None:
    _run(tmp_path, ROWS, [3], SelectionSettings(rules=RULES))
    assert [(row["id"][0], row["band_0"]) for row in read_all(tmp_path / "out/index")] == [("b", 9), ("e", 7), ("h", 6), ("j", 4)]


def test_rules_over_text_and_over_the_documents_own_columns(tmp_path: Path) -> None:
    rules = [
        Rule(reason="host", label="host", none_of=["a.*", "x.*"]),
        Rule(reason="other_language", label="lang", any_of=["en", "fr"]),
        Rule(reason="old", label="year", min=2021),
        Rule(reason="low", label="words", min_mads=1, min_spread=0.5),
        Rule(reason="unmeasured", label="nobody", max=0, if_measured=True),
        Rule(reason="unmeasured", label="nobody", max_mads=1, if_measured=True),
    ]
    _run(tmp_path, ROWS, [2, 5], SelectionSettings(rules=rules, keep_duplicates=True))
    # left for the median of English: c 8, d 7, f 5, g 5, h 6, i 2; so the lower bound is 5.5 - 1.48
    assert _reasons(tmp_path) == {
        "a": ("host", "a.example"), "b": ("old", "2020"), "e": ("other_language", "zh"), "i": ("low", "2"),
    }  # fmt: skip
    with pytest.raises(ValueError, match="'lang' is text"):
        _run(tmp_path / "text", ROWS, [], SelectionSettings(rules=[Rule(reason="x", label="lang", max=1)]))
    with pytest.raises(ValueError, match="'words' is a number"):
        _run(tmp_path / "number", ROWS, [], SelectionSettings(rules=[Rule(reason="x", label="words", any_of=["1"])]))
    with pytest.raises(ValueError, match="not both"):
        Rule(reason="x", label="words", max=1, any_of=["1"])


def test_a_cleaner_rule_before_a_robust_one_names_the_drop(tmp_path: Path) -> None:
    rules = [Rule(reason="odd", label="bits", max_mads=3, min_spread=0.1), Rule(reason="host", label="host", none_of=["c.*"])]
    _run(tmp_path, ROWS, [4], SelectionSettings(rules=rules, keep_duplicates=True))
    assert _reasons(tmp_path)["c"] == ("odd", "9")


def test_balance(tmp_path: Path) -> None:
    """Among all ten: en 8, zh 1, null 1. Shares en 3, zh 1: three of eight stay, and whatever has no language."""
    every = SelectionSettings(rules=[], keep_duplicates=True, balance=[Balance(label="lang", shares={"en": 3, "zh": 1})])
    counts = _run(tmp_path / "shares", ROWS, [5], every)
    kept = {row["id"][0] for row in read_all(tmp_path / "shares/out/documents")}
    assert counts.dropped == {"balance": 5} and kept >= {"e", "j"}
    assert set(_reasons(tmp_path / "shares").values()) == {("balance", "lang en")}
    capped = every.model_copy(update={"balance": [Balance(label="words", edges=[5, 8], max_documents=1)]})
    assert _run(tmp_path / "cap", ROWS, [5], capped).kept == 3
    only = every.model_copy(update={"balance": [Balance(label="lang", shares={"zh": 1})]})
    assert {row["id"][0] for row in (_run(tmp_path / "only", ROWS, [], only), read_all(tmp_path / "only/out/documents"))[1]} == {"e", "j"}
    # a value keeps the same documents whatever else is there, and others with another seed
    fewer = _run(tmp_path / "fewer", [row for row in ROWS if row[0] != "e"], [], every.model_copy(update={"balance": [Balance(label="lang", max_documents=3)]}))
    assert fewer.kept == 4 and {row["id"][0] for row in read_all(tmp_path / "fewer/out/documents")} == kept - {"e"}
    seeds = set()
    for seed in range(4):
        _run(tmp_path / str(seed), ROWS, [], every.model_copy(update={"seed": seed}))
        seeds.add("".join(row["id"][0] for row in read_all(tmp_path / str(seed) / "out/documents")))
    assert len(seeds) > 1


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ({"label": "lang"}, "needs shares or max_documents"), ({"label": "words", "edges": [2, 1], "max_documents": 1}, "edges must rise"),
        ({"label": "lang", "shares": {"en": 0}}, "one is above 0"), ({"label": "words", "max_documents": 1}, "give the edges"),
        ({"label": "lang", "edges": [1], "max_documents": 1}, "has no edges"), ({"label": "none", "max_documents": 1}, "no stage measures"),
        ({"label": "lang", "shares": {"eng": 2, "fr": 1}}, r"no document has a value with a share \(eng, fr\); there are: en, zh"),
    ],
)  # fmt: skip
def test_a_senseless_balance_is_refused(tmp_path: Path, balance: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(tmp_path, ROWS, [], SelectionSettings(rules=[], balance=[Balance(**balance)]))


def test_long_texts_are_cut_at_a_sentence_and_personal_data_by_kind(tmp_path: Path) -> None:
    long = "The first sentence is here. " * 5
    rows = [("a", long, *ROWS[0][2:]), ("b", "mail a@b.example or 13812345678", *ROWS[1][2:6], "b", "b")]
    done = _select(tmp_path, rows, [], SelectionSettings(rules=[], max_characters=100, personal_data={"phones": "keep"}))
    kept = [row["text"] for row in read_all(tmp_path / "out/documents")]
    assert kept == ["The first sentence is here. " * 2 + "The first sentence is here.", "mail <EMAIL> or 13812345678"]
    assert (done.redacted, done.cut) == (1, 1)


@pytest.mark.parametrize(
    ("action", "dropped", "kept"),
    [
        ("drop", {"a": "2", "b": "1"}, {"c": "plain"}),
        ({"emails": "drop"}, {"a": "2"}, {"b": "call <PHONE>", "c": "plain"}),
        ({"phones": "drop", "emails": "keep"}, {"b": "1"}, {"a": "a@b.example c@d.example", "c": "plain"}),
        ("redact", {}, {"a": "<EMAIL> <EMAIL>", "b": "call <PHONE>", "c": "plain"}),
        ("keep", {}, {"a": "a@b.example c@d.example", "b": "call 13812345678", "c": "plain"}),
    ],
)
def test_personal_data_is_dropped_redacted_or_kept(tmp_path: Path, action: Any, dropped: dict[str, str], kept: dict[str, str]) -> None:
    texts = {"a": "a@b.example c@d.example", "b": "call 13812345678", "c": "plain"}
    table = [{"id": letter * 32, "source": letter, "text": text} for letter, text in texts.items()]
    write_shard(tmp_path / "d.parquet", pa.Table.from_pylist(table, DOCUMENT_SCHEMA))
    write_shard(tmp_path / "l.parquet", sensitive_labels(pa.Table.from_pylist(table, DOCUMENT_SCHEMA), SensitiveSettings()))
    counts = select([tmp_path / "d.parquet"], {"sensitive": [tmp_path / "l.parquet"]}, tmp_path / "out", SelectionSettings(rules=[], prefer=None, personal_data=action)).counts
    assert {letter: ("personal_data", value) for letter, value in dropped.items()} == _reasons(tmp_path)
    assert counts.dropped == ({"personal_data": len(dropped)} if dropped else {})
    assert {row["id"][0]: row["text"] for row in read_all(tmp_path / "out/documents")} == kept


def test_earlier_copies_go_first(tmp_path: Path) -> None:
    table = pa.table({"id": ["x" * 32, "y" * 32], "source": ["1", "2"], "exact_cluster": ["x" * 32] * 2, "duplicate_cluster": ["x" * 32] * 2, "words": [1, 2]})
    copies = Copies(SelectionSettings(), tmp_path, 2)
    copies.add(table.append_column("earlier_duplicate", pa.array([None, "e" * 32], pa.string())))
    found = copies.find(np.array([True, True]))
    assert [found.verdict(row) for row in (0, 1, 2)] == [None, ("earlier_duplicate", "e" * 32), None]
    assert found.counts() == {"earlier_duplicate": 1}
    assert copies.find(np.array([True, False])).counts() == {}
    with pytest.raises(ValueError, match=r"selection\.prefer: no stage measures the label 'stars'"):
        Copies(SelectionSettings(prefer="stars"), tmp_path, 2).add(table)


@pytest.mark.parametrize("sizes", [False, True])
def test_copies_in_partitions_are_those_of_one(tmp_path: Path, sizes: bool) -> None:
    """Against a plain search; a cluster's size may be known, then who is alone is not even written."""
    random = np.random.default_rng(1)
    clusters = [f"{random.integers(40):032x}" for _ in range(100)]
    words = random.integers(0, 3, 100)
    columns = {"id": [f"{n:032x}" for n in range(100)], "source": ["s"] * 100, "words": words, "exact_cluster": [f"{c[-1]:>032}" for c in clusters], "duplicate_cluster": clusters}
    table = pa.table(columns | ({"duplicate_size": [clusters.count(cluster) for cluster in clusters]} if sizes else {}))
    survives = random.random(100) < 0.8
    expected = {}
    for row in np.flatnonzero(survives).tolist():
        keeper = min((other for other in range(100) if survives[other] and clusters[other] == clusters[row]), key=lambda other: (-words[other], other))
        if keeper != row:
            same = columns["exact_cluster"][row] == columns["exact_cluster"][keeper]
            expected[row] = ("exact_duplicate" if same else "near_duplicate", f"{keeper:032x}")
    for rows in (1000, 7):
        folder = tmp_path / str(rows)
        folder.mkdir()
        copies = Copies(SelectionSettings(), folder, 100, partition_rows=rows)
        for start in (0, 30, 60):
            copies.add(table.slice(start, 30 if start < 60 else 40))
        found = copies.find(survives)
        assert {row: verdict for row in range(100) if (verdict := found.verdict(row))} == expected
        assert (len(list(folder.iterdir())) > 5) == (rows == 7)


def test_finewebs_bound_on_repeated_lines_is_narrower_than_gophers() -> None:
    """A line of ten characters of 80 stands twice: an eighth of the characters, which Gopher lets pass."""
    text = "\n".join(["x" * 9 + str(number) for number in range(7)] + ["x" * 9 + "0"])
    table = pa.table({"id": ["a"], "lang": ["en"], "duplicate_lines_characters_share": [measure(text)["duplicate_lines_characters_share"]]})
    rules = [rule for rule in SelectionSettings().rules if rule.label == "duplicate_lines_characters_share"]
    found = []
    for rule in rules:
        book = RuleBook([rule])
        book.add(table)
        found.append(book.decide().verdict(0))
    assert [rule.source[:7] for rule in rules] == ["Gopher ", "FineWeb"] and found == [None, ("repeated_lines", "0.125")]


def test_unknown_and_doubled_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stage measures the label 'none'"):
        _run(tmp_path, ROWS, [], SelectionSettings(rules=[Rule(reason="x", label="none", min=1)]))
    with pytest.raises(ValueError, match="needs min, max or max_mads"):
        Rule(reason="x", label="words")


def test_labels_are_joined_by_id(tmp_path: Path) -> None:
    write_shard(tmp_path / "l.parquet", pa.table({"id": ["x", "y", "z"], "n": [1, 2, 3]}))
    assert read_labels(tmp_path / "l.parquet", pa.chunked_array([["z", "x"]]))["n"].to_pylist() == [3, 1]
    with pytest.raises(ValueError, match="no labels of 1 documents"):
        read_labels(tmp_path / "l.parquet", pa.chunked_array([["x", "w"]]))


@pytest.mark.parametrize("parts", [1, 3, 50, 500])
def test_sorting_in_parts_changes_nothing(tmp_path: Path, parts: int) -> None:
    """Whatever the parts, and though an id stands three times: fifteen shards, sorted by id, then by source."""
    ids = [f"{(n * 37) % 34:032d}" for n in range(100)]
    schema = pa.schema([("id", pa.string()), ("source", pa.string())])
    table = pa.table({"id": ids, "source": [f"{n * 7 % 100:03d}" for n in range(100)]}, schema=schema)
    borders = part_borders(np.array(ids, dtype="S32"), parts * 10, part_bytes=10)
    assert len(borders) == parts - 1
    write_sorted(4, lambda n: [table.slice(n * 25, 25)], [(tmp_path / "out", schema)], borders, 7)
    assert [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "out").iterdir())] == [7] * 14 + [2]
    assert read_all(tmp_path / "out") == sorted(table.to_pylist(), key=lambda row: (row["id"], row["source"]))


def test_nothing_in(tmp_path: Path) -> None:
    assert _run(tmp_path, [], [], SelectionSettings(rules=RULES)) == Counts()
    assert read_all(tmp_path / "out/documents") == []
