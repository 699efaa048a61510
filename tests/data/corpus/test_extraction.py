from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pyarrow as pa
import pytest

from data.corpus import extraction, main_text
from data.corpus.extraction import Extractor, close_idle, extract_text
from data.document import DOCUMENT_SCHEMA, PAGE_SCHEMA
from data.settings import ExtractionSettings
from tests.conftest import ROOT
from tests.data.corpus.helpers import documents, pages

SENTENCE = "The miller of the valley told the children a long story about the river and its ferry. "
ARTICLE = f"<html><body><nav>Home</nav><article><h1>Title</h1><p>{SENTENCE * 4}</p><p>{SENTENCE * 3}</p></article></body></html>"


@pytest.mark.parametrize("engine", ["combined", "trafilatura", "trafilatura_fast", "resiliparse"])
def test_engines_find_the_article(engine: str) -> None:
    decided = extract_text(pages(ARTICLE, "<p></p>"), ExtractionSettings(engine=engine))  # type: ignore[arg-type]
    assert decided.kept.schema.equals(DOCUMENT_SCHEMA)
    (row,) = decided.kept.to_pylist()
    assert SENTENCE.strip() in row["text"]
    assert decided.dropped["reason"].to_pylist() == ["empty_text"]


@pytest.mark.parametrize("story", [SENTENCE.strip(), "磨坊主给孩子们讲了一个关于河流和渡船的长故事。"])
def test_the_other_engine_finds_what_the_first_one_missed(monkeypatch: pytest.MonkeyPatch, story: str) -> None:
    """The engines stand in for themselves: one finds a paragraph; the other the article as well, or hardly more, and a menu."""
    monkeypatch.setattr(main_text, "_by_rules", lambda page: story * 3)
    monkeypatch.setattr(main_text, "_by_resiliparse", lambda page: f"{story * int(page)}\nMenu\n\n网站\n{story}")
    assert main_text.ENGINES["combined"]("8") == story * 3
    assert main_text.ENGINES["combined"]("12") == f"{story * 12}\n\n{story}"


def test_text_passes_through_and_hostile_pages_do_not_stop_it() -> None:
    hostile = [
        "<div>" * 100_000 + "deep", "\0" * 1000, "\ud800".encode("utf-8", "surrogatepass"), "<p>" + "x" * 5_000_000,
        "<table><tr><td>" * 2000, "<!--" * 10_000, "&#0;&#xD800;" * 100, b"\xff\xfe" * 500,
    ]  # fmt: skip
    settings = ExtractionSettings(timeout_seconds=4)  # which the nested page takes, and no other nearly
    decided = extract_text(pages(*hostile, ARTICLE), settings)
    assert decided.counts().documents_in == len(hostile) + 1
    assert f"a.warc#{len(hostile)}" in decided.kept["source"].to_pylist()
    text = documents("A text that is long enough to be kept as a document by itself.")
    table = pa.Table.from_pylist(text.to_pylist(), PAGE_SCHEMA)
    assert extract_text(table, settings).kept["text"].to_pylist() == text["text"].to_pylist()


def _extractor(monkeypatch: pytest.MonkeyPatch, **changes: float) -> Extractor:
    """An extractor whose child obeys orders in the page (see obedient_worker)."""
    monkeypatch.setattr("data.corpus.extraction.WORKER", "tests.data.corpus.obedient_worker")
    return Extractor(ExtractionSettings(**changes))  # type: ignore[arg-type]


def test_a_page_costs_its_limit_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(_extractor(monkeypatch, timeout_seconds=2, memory_megabytes=256)) as extractor:
        assert extractor.extract(b"fine") == ("fine", None)
        for order, reason in [
            ("spin", "extraction_timeout"), ("sleep", "extraction_timeout"), ("eat", "extraction_memory"),
            ("crash", "extraction_crashed"), ("exit", "extraction_crashed"), ("raise", "extraction_failed"),
        ]:  # fmt: skip
            started = time.monotonic()
            text, verdict = extractor.extract(order.encode())
            assert (text, verdict and verdict[0]) == ("", reason), order
            assert time.monotonic() - started < 20
            assert extractor.extract(b"fine") == ("fine", None)


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(psutil.Process().children())

    def work() -> None:
        with closing(_extractor(monkeypatch, timeout_seconds=30)) as extractor:
            extractor.extract(b"crash")
            extractor.extract(b"fine")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(psutil.Process().children()) <= before


def test_what_a_child_keeps_of_other_pages_costs_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hoard` takes a third of the memory and keeps it: the third of these would be lost, were it not tried in a fresh child."""
    with closing(_extractor(monkeypatch, memory_megabytes=300)) as extractor:
        assert [extractor.extract(b"hoard") for _ in range(4)] == [("hoard", None)] * 4


def test_a_child_that_left_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without work, or after so many pages, between two pages or while the next one is sent."""
    with closing(_extractor(monkeypatch)) as extractor:
        assert extractor.extract(b"leave") == ("leave", None)
        assert extractor._child is not None
        extractor._child.wait(30)
        assert extractor.extract(b"fine") == ("fine", None)


def test_the_next_shard_finds_the_child_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless its limits are others; and an error in a shard leaves none."""
    close_idle()
    monkeypatch.setattr("data.corpus.extraction.WORKER", "tests.data.corpus.obedient_worker")
    settings = ExtractionSettings(min_characters=0)

    def child() -> str:
        (text,) = extract_text(pages("pid"), settings).kept["text"].to_pylist()
        return str(text)

    first = child()
    assert child() == first
    with pytest.raises(ZeroDivisionError), extraction._extractor(settings):
        raise ZeroDivisionError
    second = child()
    assert second != first and not psutil.pid_exists(int(first))
    settings = settings.model_copy(update={"timeout_seconds": 5.0})
    assert child() != second and not psutil.pid_exists(int(second))
    close_idle()
    assert not extraction._idle


def test_children_end_with_their_process() -> None:
    """However it ends: by itself, or killed, when the child finds its stdin closed."""
    program = (
        "import sys; from data.corpus import extraction; from tests.data.corpus.helpers import pages\n"
        "extraction.WORKER = 'tests.data.corpus.obedient_worker'\n"
        "settings = extraction.ExtractionSettings(min_characters=0)\n"
        "print(*extraction.extract_text(pages('pid'), settings).kept['text'].to_pylist(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    for killed in (False, True):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        if killed:
            process.kill()
        process.communicate()
        _, alive = psutil.wait_procs([child], timeout=30)
        assert not alive


def test_a_fork_leaves_its_parents_children_alone() -> None:
    extract_text(pages(ARTICLE), ExtractionSettings())
    assert extraction._idle
    if not (fork := os.fork()):
        os._exit(len(extraction._idle))
    assert os.waitpid(fork, 0)[1] == 0
    close_idle()


def test_the_same_text_whatever_came_before() -> None:
    other = ARTICLE.replace("miller", "baker")
    alone = extract_text(pages(ARTICLE), ExtractionSettings()).kept["text"].to_pylist()[0]
    after = extract_text(pages(other, ARTICLE, ARTICLE, ARTICLE), ExtractionSettings()).kept["text"].to_pylist()
    assert after[1:] == [alone] * 3


def test_short_chinese_articles_keep_their_lines() -> None:
    lines = ["山谷里的人起得很早，清早的街上到处是人声。" * 2, "河水从山里流下来，绕过镇子慢慢流走，水边有一座老桥。" * 2, "集市上的茶很便宜，旅人都喜欢在那里歇脚。" * 2]
    page = "<html><body><div class='post'>" + "".join(f"<p>{line}</p>" for line in lines) + "</div></body></html>"
    assert extract_text(pages(page), ExtractionSettings()).kept["text"].to_pylist() == ["\n".join(lines)]
