"""The store: whole or absent, found by content, one maker at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from tasks.store.artifacts import MANIFEST, Artifact, Draft, Files, Result, Store
from tasks.store.fingerprints import fingerprint, hash_files, significant


class Inner(BaseModel):
    ranks: int = 1


class Settings(BaseModel):
    threshold: float = 0.5
    workers: int = Field(2, json_schema_extra={"fingerprint": False})
    terms: str | None = Field(None, json_schema_extra={"file": True})
    launch: Inner = Field(Inner(), json_schema_extra={"fingerprint": False})


def build(draft: Draft) -> Result:
    (draft.out / "folder").mkdir()
    (draft.out / "folder" / "words.txt").write_text("wörter")
    return Result(counts={"documents_in": 3, "kept": 2, "dropped": {"short": 1}}, metrics={"loss": 1.5})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    return Store(f"memory://{tmp_path.name}", cache=str(tmp_path / "cache"))


def test_second_make_reuses_and_other_settings_do_not(store: Store) -> None:
    first, reused = store.make("quality", 1, Settings(), {}, build)
    assert not reused
    again, reused = store.make("quality", 1, Settings(workers=64, launch=Inner(ranks=8)), {}, build)
    assert reused and again == first
    other, reused = store.make("quality", 1, Settings(threshold=0.6), {}, build)
    assert not reused and other != first
    newer, reused = store.make("quality", 2, Settings(), {}, build)
    assert not reused and newer != first


def test_manifest_tells_everything_and_local_copy_is_whole(store: Store) -> None:
    parent, _ = store.make("ingest", 1, Settings(), {}, build)
    artifact, _ = store.make("quality", 1, Settings(), {"pages": parent}, build)
    manifest = store.manifest(artifact)
    assert manifest.counts["dropped"] == {"short": 1}
    assert manifest.files["folder/words.txt"]["bytes"] == len("wörter".encode())
    assert manifest.inputs["pages"].fingerprint == parent.fingerprint
    assert (store.local(artifact) / "folder" / "words.txt").read_text() == "wörter"
    assert set(store.lineage(artifact)) == {f"ingest/{parent.fingerprint}", f"quality/{artifact.fingerprint}"}


def test_failed_build_leaves_no_artifact_and_keeps_its_work(store: Store) -> None:
    def fails(draft: Draft) -> Result:
        (draft.work / "half").write_text("done so far")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.make("quality", 1, Settings(), {}, fails)

    def goes_on(draft: Draft) -> Result:
        assert (draft.work / "half").read_text() == "done so far"
        assert not any(draft.out.iterdir())
        return build(draft)

    _, reused = store.make("quality", 1, Settings(), {}, goes_on)
    assert not reused
    assert not list(store.workroot.glob("quality-*"))


def test_a_kill_while_the_work_is_removed_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a later attempt would find notes of shards that are done, and not the shards."""
    store, remove = Store(str(tmp_path)), shutil.rmtree

    def works(draft: Draft) -> Result:
        (draft.work / "done").write_text("every shard")
        return build(draft)

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if (folder / "work" / "done").exists():
            raise KeyboardInterrupt
        remove(folder, ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.make("quality", 1, Settings(), {}, works)
    [artifact] = store.artifacts()
    store.remove(artifact)

    def begins_anew(draft: Draft) -> Result:
        assert not any(draft.work.iterdir())
        return build(draft)

    assert store.make("quality", 1, Settings(), {}, begins_anew) == (artifact, False)


def test_force_makes_again_at_the_same_address(store: Store) -> None:
    first, _ = store.make("quality", 1, Settings(), {}, build)
    before = store.manifest(first).ended
    again, reused = store.make("quality", 1, Settings(), {}, build, force=True)
    assert again == first and not reused
    assert store.manifest(again).ended > before


def test_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    artifact, _ = store.make("quality", 1, Settings(), {}, build)
    (store.local(artifact) / MANIFEST).unlink()
    assert store.find("quality", artifact.fingerprint) is None
    _, reused = store.make("quality", 1, Settings(), {}, build)
    assert not reused


def test_damaged_remote_file_is_refused(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}", cache=str(tmp_path / "cache"))
    artifact, _ = store.make("quality", 1, Settings(), {}, build)
    store.fs.pipe_file(f"{store.root}/quality/{artifact.fingerprint}/folder/words.txt", b"tampered")
    with pytest.raises(OSError, match=r"words\.txt does not have the hash"):
        store.local(artifact)


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), RuntimeError("Unable to locate credentials")])
def test_a_store_that_cannot_be_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """As S3's driver says that a key is wrong, and botocore that there is none."""
    store = Store(f"memory://{tmp_path.name}", cache=str(tmp_path / "cache"))

    def refused(*given: object, **more: object) -> None:
        raise error

    for method in ("exists", "open"):
        monkeypatch.setattr(store.fs, method, refused)
    for asked in (lambda: store.make("quality", 1, Settings(), {}, build), lambda: store.read_note("published/chat")):
        with pytest.raises(OSError, match=rf"^the store memory://{tmp_path.name} cannot be read \({type(error).__name__}: {error}\); are its address and"):
            asked()


def _make_slowly(folder: str, log: str) -> None:
    def slow(draft: Draft) -> Result:
        with open(log, "a") as stream:
            stream.write("built\n")
        time.sleep(0.5)
        return build(draft)

    Store(folder).make("quality", 1, Settings(), {}, slow)


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    makers = [context.Process(target=_make_slowly, args=(str(tmp_path / "store"), str(log))) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(60)
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert log.read_text().splitlines() == ["built"]


def test_a_killed_maker_lets_the_next_one_go_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    maker = context.Process(target=_make_slowly, args=(str(tmp_path / "store"), str(log)))
    maker.start()
    while not log.exists():
        time.sleep(0.01)
    assert maker.pid
    os.kill(maker.pid, signal.SIGKILL)
    maker.join()
    store = Store(str(tmp_path / "store"))
    assert not list(Path(store.root).glob(f"quality/*/{MANIFEST}"))
    _, reused = store.make("quality", 1, Settings(), {}, build)
    assert not reused


def test_files_are_addressed_by_content_not_by_place(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text("1\n")
        (tmp_path / folder / "y.jsonl").write_text("2\n")
    assert Files.of(tmp_path / "a").fingerprint == Files.of(tmp_path / "b").fingerprint
    assert hash_files(str(tmp_path / "a" / "*.jsonl")) == hash_files(str(tmp_path / "a"))
    (tmp_path / "b" / "y.jsonl").write_text("3\n")
    assert Files.of(tmp_path / "a").fingerprint != Files.of(tmp_path / "b").fingerprint
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Files.of(tmp_path / "nowhere")


def test_input_files_in_settings_count_by_content(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("term")
    (tmp_path / "two.txt").write_text("term")
    one, two = (significant(Settings(terms=str(tmp_path / name))) for name in ("one.txt", "two.txt"))
    assert one == two
    assert fingerprint("s", 1, one, {}) != fingerprint("s", 1, significant(Settings()), {})


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    artifact, _ = store.make("quality", 1, Settings(), {}, build)
    raw = json.loads((store.local(artifact) / MANIFEST).read_text())
    assert raw["settings"] == {"threshold": 0.5, "terms": None}
    assert Artifact.model_validate(artifact.model_dump()) == artifact
