from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.shards import list_shards, read_known_columns, read_shard, shard_name, write_shard


def test_written_whole_and_listed_in_order(tmp_path: Path) -> None:
    for index in (10, 2, 0):
        write_shard(tmp_path / shard_name(index), pa.table({"x": [index]}))
    (tmp_path / ".part-00001.parquet.abc").write_bytes(b"half")
    assert [path.name for path in list_shards(tmp_path)] == ["part-00000.parquet", "part-00002.parquet", "part-00010.parquet"]
    assert read_shard(list_shards(tmp_path)[1])["x"].to_pylist() == [2]
    assert list_shards(tmp_path / "absent") == []


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, pa.table({"x": ["a", None, "b"] * 1000}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pages_are_written_without_a_dictionary_of_them(tmp_path: Path) -> None:
    table = pa.table({"html": [b"<p>one", None, b"<p>one"], "charset": ["utf-8", "utf-8", None]})
    write_shard(tmp_path / "a", table)
    assert read_shard(tmp_path / "a").equals(table)
    columns = pq.read_metadata(tmp_path / "a").row_group(0)
    assert [columns.column(at).has_dictionary_page for at in range(2)] == [False, True]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "a", pa.table({"x": [1]}))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("data.shards.pq.write_table", fail)
    with pytest.raises(OSError, match="no space"):
        write_shard(tmp_path / "a", pa.table({"x": [2]}))
    monkeypatch.undo()
    assert read_shard(tmp_path / "a")["x"].to_pylist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_shards_beyond_five_digits_stay_in_order(tmp_path: Path) -> None:
    for number in (100_000, 2, 99_999, 10_000):
        (tmp_path / shard_name(number)).touch()
    assert list_shards(tmp_path) == [tmp_path / shard_name(number) for number in (2, 10_000, 99_999, 100_000)]


def test_known_columns_in_the_order_of_the_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-00000.parquet", pa.table({"id": ["a"], "words": [3], "lang": ["en"]}))
    assert read_known_columns(tmp_path / "part-00000.parquet", {"lang", "id", "topic"}).to_pydict() == {"id": ["a"], "lang": ["en"]}
