from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.url.blocks import block_list
from data.corpus.url.form import host_of, normalise_url
from data.corpus.url.gate import filter_urls
from data.corpus.url.repeats import find_repeats, url_keys
from data.document import PAGE_SCHEMA
from data.settings import UrlSettings
from data.shards import read_shard, write_shard


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://WWW.Example.COM:80/a/../b/./c/#top", "http://www.example.com/b/c"),
        ("https://user:pw@example.com:443", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("http://example.com/?utm_source=x&b=2&fbclid=1&a=1", "http://example.com/?a=1&b=2"),
        ("http://example.com/%7Euser/%e4%bd%a0", "http://example.com/~user/%E4%BD%A0"),
        ("http://example.com/你 好", "http://example.com/%E4%BD%A0%20%E5%A5%BD"),
        ("http://example.com/?z=1&页=2&utm%5Fid=3", "http://example.com/?%E9%A1%B5=2&z=1"), ("http://a.example/?0&\x7f", "http://a.example/?%7F&0"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.com/a;jsessionid=12?x", "http://example.com/a?x"),
        ("http://example.com/topic?t=1&sid=0123456789abcdef0123456789ABCDEF", "http://example.com/topic?t=1"),
        ("http://example.com/modules.php?name=News&sid=123", "http://example.com/modules.php?name=News&sid=123"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]/x"),
        ("http://\u2024/", None), ("http://a.example\u2024/x", "http://a.example/x"),
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


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(ROWS))), cut=st.integers(0, len(ROWS)), partition_rows=st.integers(1, 9))
def test_repeats_depend_on_neither_order_nor_shards(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int, partition_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("repeats")
    whole = _pages(*ROWS).take(order)
    shards = []
    for number, part in enumerate((whole.slice(0, cut), whole.slice(cut))):
        shards.append(folder / f"part-0000{number}.parquet")
        write_shard(shards[-1], part)
    keys = [folder / "keys" / shard.name for shard in shards]
    for key, shard in zip(keys, shards, strict=True):
        write_shard(key, url_keys(read_shard(shard), UrlSettings()))
    find_repeats(keys, folder / "repeats", partition_rows)
    decided = [filter_urls(read_shard(shard), UrlSettings(), repeats=folder / "repeats" / shard.name) for shard in shards]
    kept = {row["source"] for part in decided for row in part.kept.to_pylist()}
    assert kept == {"2#1", "5#4", "6#6", "7#7"}  # of the two that differ in their source alone, the one with the smaller hash
    reasons = {row["source"]: (row["reason"], row["value"][-1]) for part in decided for row in part.dropped.to_pylist()}
    repeated = ("repeated_url", "2")
    assert reasons == {"1#0": repeated, "3#2": repeated, "4#3": repeated, "6#5": ("repeated_content", "6")}


def test_the_host_of_a_normal_url() -> None:
    assert host_of("http://a.example:8080/x:y/z") == "a.example"
    assert host_of("http://[2001:db8::1]:80/x") == "2001:db8::1"
    assert host_of("mailto:a@b.c") == host_of("") == host_of("a/b/c/d") == ""


def test_list_files_of_every_form(tmp_path: Path) -> None:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "domains").write_text("# comment\nbad.example\n0.0.0.0 worse.example worst.example\n.dotted.example\nco.uk\nhttp://www.third.example/\n")
    (tmp_path / "adult" / "urls").write_text("ok.example/~bad\nok.example/worse/\nOK.example/Forum/%7Eb\nok.example/坏\n", encoding="utf-8")
    (tmp_path / "words").write_text("casino\n# no\n赌场\n")
    settings = UrlSettings(
        blocked_hosts_file=str(tmp_path / "adult"), blocked_words_file=str(tmp_path / "words"), blocked_patterns=[r"/tag/\d+$"],
        use_bundled_list=False,
    )  # fmt: skip
    verdicts = {
        "http://x.bad.example/": ("blocked_host", "bad.example"), "http://worse.example/": ("blocked_host", "worse.example"),
        "http://shop.third.example/": ("blocked_host", "third.example"), "http://worst.example/": ("blocked_host", "worst.example"),
        "http://dotted.example/": ("blocked_host", "dotted.example"),
        "http://co.uk/": ("blocked_host", "co.uk"), "http://news.co.uk/": None,
        "http://ok.example/~bad/1": ("blocked_path", "ok.example/~bad"), "http://ok.example/worse?x=1": ("blocked_path", "ok.example/worse"),
        "http://ok.example/Forum/~b/c": ("blocked_path", "ok.example/Forum/~b"), "http://ok.example/forum/~b/c": None,
        "http://ok.example/%E5%9D%8F/1": ("blocked_path", "ok.example/%E5%9D%8F"),
        "http://ok.example/~badly": None, "http://ok.example/": None, "http://ok.example/x/~bad": None,
        "http://ok.example/casino": ("blocked_word", "casino"), "http://ok.example/casinos": None,
        "http://ok.example/%E5%A4%A7%E8%B5%8C%E5%9C%BA%E7%BD%91": ("blocked_word", "赌场"),
        "http://ok.example/tag/12": ("blocked_pattern", r"/tag/\d+$"), "http://ok.example/tag/12/x": None,
    }  # fmt: skip
    found = {url: block_list(settings).match(url) for url in verdicts}
    assert found == verdicts
    (tmp_path / "words").write_bytes("赌场\n".encode("gb18030"))
    with pytest.raises(ValueError, match="words: no UTF-8 at byte 0; save the file as UTF-8"):
        block_list(settings)
    for encoding in ("utf-8-sig", "utf-16"):  # as editors on Windows save it
        (tmp_path / "words").write_bytes("赌场\r\n网\r\n".encode(encoding))
        assert block_list(settings).match("http://ok.example/%E8%B5%8C%E5%9C%BA") == ("blocked_word", "赌场")
    (tmp_path / "words").write_text("roulette\n")
    assert block_list(settings).match("http://ok.example/casino") is None, "a changed file is read again"
    with pytest.raises(ValueError, match="is no regular expression"):
        UrlSettings(blocked_patterns=["("])
    (tmp_path / "filters").write_text("[Adblock Plus 2.0]\n||bad.example^$third-party\n")
    with pytest.raises(ValueError, match="filters: no line names a host; write HOST or HOST/PATH"):
        block_list(settings.model_copy(update={"blocked_hosts_file": str(tmp_path / "filters")}))


def test_half_a_million_hosts_cost_a_url_no_more(tmp_path: Path) -> None:
    """Measured here: 500,000 hosts are read in 1.6 s, and 150,000 URLs a second are matched, as with ten hosts."""
    (tmp_path / "hosts").write_text("".join(f"host{number}.example{number % 97}.com\n" for number in range(500_000)))
    urls = [f"http://www.host{number}.example.org/some/path/{number}.html?a=1" for number in range(20_000)]

    def seconds(settings: UrlSettings) -> float:
        blocks = block_list(settings)
        started = time.process_time()
        assert not any(blocks.match(url) for url in urls)
        return time.process_time() - started

    few, many = (UrlSettings(blocked_hosts_file=file) for file in (None, str(tmp_path / "hosts")))
    assert min(seconds(many) for _ in range(3)) < 4 * min(seconds(few) for _ in range(3))
    assert block_list(many).match("http://a.host7.example7.com/") == ("blocked_host", "host7.example7.com")


def _labelled(count: int) -> list[tuple[str, str]]:
    good = [f"http://site{n % 50}.example/{2000 + n % 20}/articles/the-{n}-history-of-town" for n in range(count)]
    bad = [f"http://win{n % 50}.example/casino-bonus/free-{n}-spins?aff={n}" for n in range(count)]
    return [("good", url) for url in good] + [("bad", url) for url in bad]


def test_a_url_score_is_learned_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from data.corpus.train_url_score import main as train_url_score

    (tmp_path / "urls.tsv").write_text("".join(f"{label}\t{url}\n" for label, url in _labelled(150)))
    assert train_url_score([str(tmp_path / "urls.tsv"), "--out", str(tmp_path / "urls.npz")]) == 0
    assert '"auc": 1.0' in capsys.readouterr().out
    settings = UrlSettings(score_model=str(tmp_path / "urls.npz"), use_bundled_list=False)
    table = _pages(
        ("1", "http://new.example/2011/articles/a-history-of-rivers", None), ("2", "http://else.example/casino/bonus-spins?aff=3", None),
        ("3", None, None),
    )  # fmt: skip
    decided = filter_urls(table, settings)
    assert decided.kept["source"].to_pylist() == ["1#0", "3#2"]
    assert decided.dropped["reason"].to_pylist() == ["low_url_score"]
    for side in ("good", "bad"):  # as an earlier run leaves them: no labels, and documents without a URL
        urls = [url for label, url in _labelled(150) if label == side]
        (tmp_path / side).mkdir()
        pq.write_table(pa.table({"url": pa.array([*urls, None], pa.string())}), tmp_path / side / "part-00000.parquet")
    sides = ["--good", str(tmp_path / "good"), "--bad", str(tmp_path / "bad")]
    assert train_url_score([*sides, "--out", str(tmp_path / "sides.npz")]) == 0
    assert filter_urls(table, settings.model_copy(update={"score_model": str(tmp_path / "sides.npz")})).kept == decided.kept
    (tmp_path / "bad.txt").write_text("maybe\thttp://a.example/\n")
    assert train_url_score([str(tmp_path / "bad.txt"), "--out", str(tmp_path / "x.npz")]) == 2
    assert "needed: a url and a label" in capsys.readouterr().err
