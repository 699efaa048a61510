from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import (
    DOCUMENT_SCHEMA,
    DROPPED_SCHEMA,
    PAGE_SCHEMA,
    Counts,
    content_id,
    decide,
    text_array,
    views,
)


def _table(rows: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"id": f"{i:032x}", "url": None, "date": None, "source": f"a#{i}", "lang": None, "text": "x"} for i in range(rows)],
        DOCUMENT_SCHEMA,
    )


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from(["a", "b"]), st.none() | st.just("1"))), max_size=30))
def test_rows_add_up(verdicts: list[tuple[str, str | None] | None]) -> None:
    decided = decide(_table(len(verdicts)), verdicts)
    counts = decided.counts()
    counts.check()
    assert counts.documents_in == len(verdicts)
    assert counts.kept == verdicts.count(None)
    assert decided.dropped.schema.equals(DROPPED_SCHEMA)
    sources = decided.kept["source"].to_pylist() + decided.dropped["source"].to_pylist()
    assert sorted(sources) == sorted(f"a#{i}" for i in range(len(verdicts)))


def test_a_verdict_for_each_row() -> None:
    with pytest.raises(ValueError, match="1 verdicts for 2"):
        decide(_table(2), [None])


def test_counts_add_up() -> None:
    total = Counts(3, 1, {"a": 2}) + Counts(2, 1, {"a": 1})
    assert total == Counts(5, 2, {"a": 3})
    total.check()
    with pytest.raises(ValueError, match="accounted for"):
        Counts(3, 1, {"a": 1}).check()


def test_content_id_is_stable() -> None:
    assert content_id("http://a.example/", b"x") == content_id("http://a.example/", b"x")
    assert content_id("http://a.example/", b"x") != content_id(None, b"http://a.example/x")
    assert content_id(None, b"") == "7025e075d5e2f6cde3cc051a31f07660"


def test_pages_are_split_without_copying_them() -> None:
    rows = [{"id": f"{n:032x}", "source": f"a#{n}", "html": None if n == 2 else bytes([n]) * n} for n in range(7)]
    pages = pa.concat_tables([pa.Table.from_pylist(part, PAGE_SCHEMA) for part in (rows[:3], [], rows[3:])]).slice(1)
    for gone in ([], [0], [5], [0, 1, 4], [*range(6)]):
        decided = decide(pages, [("spam", str(row)) if row in gone else None for row in range(6)])
        stays = [row["id"] for row in rows[1:]]
        for row in reversed(gone):
            del stays[row]
        assert decided.kept["id"].to_pylist() == stays and decided.dropped["value"].to_pylist() == list(map(str, gone))
        assert decided.kept.schema == PAGE_SCHEMA and decided.dropped.schema == DROPPED_SCHEMA
        assert [None if view is None else bytes(view) for view in views(decided.kept, "html")] == decided.kept["html"].to_pylist()
    assert views(pages.slice(0, 0), "html") == [] == views(PAGE_SCHEMA.empty_table(), "html")


def test_texts_are_a_column_again() -> None:
    texts = ["naïve", "", "天气", "😀" * 3]
    table = pa.table({"text": pa.chunked_array([["before", *texts[:2]], [], texts[2:]], pa.string())}).slice(1)
    column = text_array([view for view in views(table, "text") if view is not None])
    column.validate(full=True)
    assert column.type == pa.string() and column.to_pylist() == texts and text_array([]).to_pylist() == []
