"""A scheduled retraining does nothing, and says so, when no new crawl files lie there."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipe_file import load
from flows.retrain import NOTHING_NEW, crawl_files, retrain
from tasks.stage import Run


def test_every_file_that_the_crawl_names_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.warc", "a/2.warc", "b.jsonl"):
        (tmp_path / name).write_text(name)
    listed = crawl_files([str(tmp_path / "a"), str(tmp_path / "*.jsonl")])
    assert sorted(Path(path).name for path in listed) == ["1.warc", "2.warc", "b.jsonl"]
    before = listed[str(tmp_path / "b.jsonl")]
    (tmp_path / "b.jsonl").write_text("longer than before")
    assert crawl_files([str(tmp_path / "*.jsonl")])[str(tmp_path / "b.jsonl")] != before


@pytest.mark.usefixtures("prefect_server")
def test_nothing_new_is_said_and_nothing_runs(tmp_path: Path) -> None:
    recipe, run = load("tiny"), Run(store=str(tmp_path / "store"))
    store = run.open_store()
    store.write_note("retrained/tiny", crawl_files(recipe.corpus))
    state = retrain(recipe, run, return_state=True)
    assert state.is_completed() and state.name == NOTHING_NEW and "no new crawl files" in (state.message or "")
    assert list(store.artifacts()) == []
