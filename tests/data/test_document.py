from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import DOCUMENT_SCHEMA, DROPPED_SCHEMA, Counts, content_id, decide


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
