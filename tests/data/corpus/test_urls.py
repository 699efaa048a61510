from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.urls import filter_urls, find_repeats, normalise_url
from data.document import PAGE_SCHEMA
from data.settings import UrlSettings
from data.shards import write_shard


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://WWW.Example.COM:80/a/../b/./c/#top", "http://www.example.com/b/c"),
        ("https://user:pw@example.com:443", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("http://example.com/?utm_source=x&b=2&fbclid=1&a=1", "http://example.com/?a=1&b=2"),
        ("http://example.com/%7Euser/%e4%bd%a0", "http://example.com/~user/%E4%BD%A0"),
        ("http://example.com/你 好", "http://example.com/%E4%BD%A0%20%E5%A5%BD"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.com/a;jsessionid=12?x", "http://example.com/a?x"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]/x"),
        ("http://hard::name.com/", None), ("ftp://example.com/", None), ("mailto:a@b.c", None), ("http://", None),
    ],
)  # fmt: skip
def test_normal_form(url: str, normal: str | None) -> None:
    assert normalise_url(url) == normal
    if normal:
        assert normalise_url(normal) == normal


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_taken(text: str) -> None:
    for url in (text, "http://" + text, "http://a.example/" + text):
        normal = normalise_url(url)
        assert normal is None or normalise_url(normal) == normal


def _pages(*rows: tuple[str, str | None, str | None]) -> pa.Table:
    """Pages of (id, url, date); their source is their id and place."""
    return pa.Table.from_pylist(
        [{"id": i.zfill(32), "url": u, "date": d, "source": f"{i}#{n}"} for n, (i, u, d) in enumerate(rows)], PAGE_SCHEMA
    )


def test_block_lists() -> None:
    settings = UrlSettings(blocked_hosts=["www.bad.example", "赌.example"], blocked_words=["casino"], use_bundled_list=False)
    table = _pages(
        ("1", "http://bad.example/", None), ("2", "http://sub.bad.example/x", None), ("3", "http://notbad.example/", None),
        ("4", "http://ok.example/Casino-now", None), ("5", "http://ok.example/casinos", None),
        ("6", "http://xn--9kq.赌.example/", None), ("7", None, None), ("8", "http://hard::x.com/1", None),
    )  # fmt: skip
    decided = filter_urls(table, settings)
    dropped = {row["id"][-1]: (row["reason"], row["value"]) for row in decided.dropped.to_pylist()}
    assert dropped == {
        "1": ("blocked_host", "bad.example"), "2": ("blocked_host", "bad.example"), "4": ("blocked_word", "casino"),
        "6": ("blocked_host", "赌.example".encode("idna").decode()),
    }  # fmt: skip
    assert decided.kept["url"].to_pylist()[-2:] == [None, "http://hard::x.com/1"]


def test_the_bundled_list_spares_ordinary_words() -> None:
    urls = ["http://essex.example/scunthorpe", "http://news.example/sussex-xxxl-jumpers", "http://dick.example/"]
    decided = filter_urls(_pages(*((str(n), url, None) for n, url in enumerate(urls))), UrlSettings())
    assert decided.dropped.num_rows == 0


ROWS = [
    ("1", "http://a.example/x#1", "2024-01-01T00:00:00Z"), ("2", "http://a.example/x/", "2024-02-01T00:00:00Z"),
    ("3", "HTTP://A.example/x?utm_id=3", "2024-02-01T00:00:00Z"), ("4", "http://a.example/x", None),
    ("5", "http://b.example/", None), ("6", None, None), ("6", None, None), ("7", None, None),
]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(ROWS))), cut=st.integers(0, len(ROWS)))
def test_repeats_depend_on_neither_order_nor_shards(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("repeats")
    whole = _pages(*ROWS).take(order)
    shards = []
    for number, part in enumerate((whole.slice(0, cut), whole.slice(cut))):
        shards.append(folder / f"part-0000{number}.parquet")
        write_shard(shards[-1], part)
    find_repeats(shards, folder / "repeats.parquet", UrlSettings())
    decided = filter_urls(whole, UrlSettings(), repeats=Path(folder / "repeats.parquet"))
    kept = {row["source"] for row in decided.kept.to_pylist()}
    assert kept == {"2#1", "5#4", "6#5", "7#7"}
    reasons = {row["source"]: row["reason"] for row in decided.dropped.to_pylist()}
    assert reasons == {"1#0": "repeated_url", "3#2": "repeated_url", "4#3": "repeated_url", "6#6": "repeated_content"}
