"""Two who want the same artifact: one makes it, the other waits and says for whom, and goes on where the first one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from pydantic import BaseModel

from tasks.store import locks
from tasks.store.artifacts import Draft, Result, Store
from tests.flows import stack as stacks


class Settings(BaseModel):
    width: int = 1


def make_twice(stores: list[Store]) -> tuple[list[bool], list[str], int]:
    """Both at once: what was reused, what the second one heard, and how often the artifact was built."""
    builds: list[str] = []
    heard: list[str] = []
    building = threading.Event()

    def build(draft: Draft) -> Result:
        builds.append("built")
        building.set()
        time.sleep(0.5)
        (draft.out / "x").write_text("1")
        return Result({}, {})

    def make(store: Store, holder: str) -> bool:
        return store.make("stage", 1, Settings(), {}, build, holder=holder, waiting=heard.append)[1]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make, stores[0], "run one")
        assert building.wait(10)
        second = pool.submit(make, stores[1], "run two")
        return [first.result(20), second.result(20)], heard, len(builds)


def test_the_second_process_waits_and_reuses(tmp_path: Path) -> None:
    reused, heard, builds = make_twice([Store(str(tmp_path)), Store(str(tmp_path))])
    assert (reused, heard, builds) == ([False, True], ["run one"], 1)


def test_the_second_machine_waits_and_reuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two caches are two machines: only the store itself is between them."""
    monkeypatch.setattr(locks, "LEASE_POLL_SECONDS", 0.05)
    url = f"memory://{tmp_path.name}"
    reused, heard, builds = make_twice([Store(url, cache=str(tmp_path / name)) for name in ("one", "two")])
    assert (reused, heard, builds) == ([False, True], ["run one"], 1)
    assert not fsspec.filesystem("memory").glob(f"/{tmp_path.name}/.locks/*")


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    holding = "import sys, time; from pathlib import Path; from tasks.store import locks\n"
    holding += "with locks.held(Path(sys.argv[1]), 'the one that dies', print): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", holding, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    heard: list[str] = []

    def kill(who: str) -> None:
        heard.append(who)
        os.kill(holder.pid, signal.SIGKILL)

    with locks.held(tmp_path / "lock", "the next", kill):
        assert heard == ["the one that dies"]
    holder.wait()
    with locks.held(tmp_path / "lock", "the last", heard.append):
        assert len(heard) == 1


def test_a_lost_lease_is_taken_over_and_a_renewed_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LEASE_POLL_SECONDS": 0.02, "LOST_SECONDS": 0.4, "RENEW_SECONDS": 0.05}.items():
        monkeypatch.setattr(locks, name, seconds)
    fs, path, heard = fsspec.filesystem("memory"), f"/{tmp_path.name}/lease.json", []
    dead = locks._Lease(fs, path, "a machine that is gone", "one")
    dead.acquire(heard.append)
    begun = time.monotonic()
    with locks.leased(fs, path, "the next", heard.append, "two"):
        assert time.monotonic() - begun >= 0.4 and heard == ["a machine that is gone"]
        dead.release()  # it wakes up: the lease is no longer its own
        waiting = threading.Thread(target=lambda: locks._Lease(fs, path, "third", "three").acquire(heard.append))
        waiting.start()
        time.sleep(1.0)  # longer than a lease lives that nobody renews
        assert waiting.is_alive() and heard[-1] == "the next"
    waiting.join(5)
    assert not waiting.is_alive() and locks._Lease(fs, path, "x", "four")._read() is not None


def test_what_died_on_the_same_machine_is_not_waited_for(tmp_path: Path) -> None:
    """Its file lock is free, or nobody would ask for the lease."""
    fs, path, heard = fsspec.filesystem("memory"), f"/{tmp_path.name}/lease.json", []
    locks._Lease(fs, path, "a process that is gone", "here").acquire(heard.append)
    with locks.leased(fs, path, "the next", heard.append, "here"):
        assert not heard


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    class Broken(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
        cachable = False

        def pipe_file(self, *given: object, **more: object) -> None:
            raise PermissionError("no writing here")

    with pytest.raises(PermissionError, match="no writing here"), locks.leased(Broken(), f"/{tmp_path.name}/lease.json", "one", print, "here"):
        pass


@pytest.mark.slow
def test_the_second_machine_waits_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real S3 server's exclusive writing (moto's, extra `production`)."""
    if (command := stacks.moto()) is None:
        pytest.skip("not installed: moto_server")
    port = stacks.free_port()
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with (tmp_path / "moto.log").open("wb") as log:
        server = subprocess.Popen([command, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        stacks.until(lambda: stacks.answers(f"http://127.0.0.1:{port}/moto-api/"), "moto never answered", 60)
        fsspec.filesystem("s3").makedirs("artifacts", exist_ok=True)
        reused, heard, builds = make_twice([Store("s3://artifacts/store", cache=str(tmp_path / name)) for name in ("one", "two")])
        assert (reused, heard, builds) == ([False, True], ["run one"], 1)
    finally:
        server.terminate()
        server.wait()
