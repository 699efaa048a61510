"""A scheduled retraining does nothing, and says so, when no new crawl files lie there."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.corpus.reading import hub
from flows.recipe_file import load
from flows.retrain import NOTHING_NEW, crawl_files, main, retrain
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


def test_the_files_of_a_dataset_are_listed_and_of_one_on_the_hub_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.jsonl").write_text("{}")
    monkeypatch.setattr(hub, "revision_of", lambda dataset: f"commit of {dataset.path}")
    listed = crawl_files([f"dataset:{tmp_path}?split=train", "dataset:org/crawl?split=train"])
    assert [Path(path).name for path in listed] == ["1.jsonl", "crawl?split=train"]
    assert listed["dataset:org/crawl?split=train"] == ["commit", "commit of org/crawl"]


def test_a_retraining_goes_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--until", "corpus"])
    assert refusal.value.code == 2 and "unrecognized arguments: --until corpus" in capsys.readouterr().err


@pytest.mark.usefixtures("prefect_server")
def test_nothing_new_is_said_and_nothing_runs(tmp_path: Path) -> None:
    recipe, run = load("tiny"), Run(store=str(tmp_path / "store"))
    store = run.open_store()
    store.write_note("retrained/tiny", crawl_files(recipe.corpus))
    state = retrain(recipe, run, return_state=True)
    assert state.is_completed() and state.name == NOTHING_NEW and "no new crawl files" in (state.message or "")
    assert list(store.artifacts()) == []
