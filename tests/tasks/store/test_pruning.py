"""What old runs left on a machine goes: drafts that nobody took up again, copies that nobody reads. What is in use stays."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows import prune
from tasks.store import pruning
from tasks.store.artifacts import Artifact, Draft, Result, Store

WEEK = timedelta(days=7)


class Settings(BaseModel):
    number: int = 1


def build(draft: Draft) -> Result:
    (draft.out / "model").write_bytes(b"x" * 100)
    return Result({}, {})


def killed(draft: Draft) -> Result:
    (draft.work / "checkpoint").write_bytes(b"x" * 50)
    raise KeyboardInterrupt


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def test_old_drafts_and_unused_copies_go(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = f"memory://{tmp_path.name}"
    store = Store(url)
    made: list[Artifact] = []
    for number in range(2):
        made.append(store.make("sft", 1, Settings(number=number), {}, build)[0])
        with pytest.raises(KeyboardInterrupt):
            store.make("ppo", 1, Settings(number=number), {}, killed)
    copies = [store.local(artifact) for artifact in made]
    drafts = sorted(store.workroot.glob("ppo-*"))
    for folder in [*copies, *drafts]:
        age(folder, 8)
    assert {one.folder for one in pruning.leftovers(store, WEEK)} == {*copies, *drafts}
    store.local(made[0])  # used again
    (drafts[0] / "work" / "metrics.jsonl").write_text("{}")  # and taken up again
    with store.lock(drafts[1].name):
        assert {one.folder for one in pruning.leftovers(store, WEEK)} == {copies[1]}  # somebody is at the other draft
    assert prune.main(["--store", url, "--older-than", "7", "--here"]) == 0
    assert "2 drafts and copies, 0.0 MB would go" in capsys.readouterr().out and copies[1].exists()
    assert prune.main(["--store", url, "--older-than", "7", "--here", "--yes"]) == 0
    assert [copies[1].exists(), drafts[1].exists(), copies[0].exists(), drafts[0].exists()] == [False, False, True, True]
    assert (store.local(made[1]) / "model").stat().st_size == 100  # the store still has it
    assert pruning.leftovers(Store(str(tmp_path / "new")), WEEK) == []


def test_a_copy_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning was killed in the middle of it."""
    store = Store(f"memory://{tmp_path.name}", cache=str(tmp_path))
    artifact, _ = store.make("sft", 1, Settings(), {}, build)
    copy = store.local(artifact)

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        (folder / "model").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            pruning.clear([pruning.Leftover(copy, 100)])
    assert (store.local(artifact) / "model").stat().st_size == 100
    pruning.clear([pruning.Leftover(copy, 100), pruning.Leftover(tmp_path / "gone meanwhile", 0)])
    assert not copy.exists()
