"""Two who want the same artifact: one makes it, the other waits and says for whom, and goes on where the first one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
    building, told = threading.Event(), threading.Event()

    def build(draft: Draft) -> Result:
        builds.append("built")
        building.set()
        assert told.wait(300), "the second one never waited"  # however busy the machine is
        (draft.out / "x").write_text("1")
        return Result({}, {})

    def waiting(holder: str) -> None:
        heard.append(holder)
        told.set()

    def make(store: Store, holder: str) -> bool:
        return store.make("stage", 1, Settings(), {}, build, holder=holder, waiting=waiting)[1]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make, stores[0], "run one")
        assert building.wait(300)
        second = pool.submit(make, stores[1], "run two")
        return [first.result(300), second.result(300)], heard, len(builds)


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


class Clock:
    """The time of whoever waits for a lease, which passes while it sleeps: `between` is called at each look at the lease."""

    def __init__(self, between: Callable[[], object] = lambda: None) -> None:
        self.now, self.between = 0.0, between

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.between()


def test_a_lost_lease_is_taken_over_and_a_renewed_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(locks, "time", clock := Clock())
    fs, path, heard = fsspec.filesystem("memory"), f"/{tmp_path.name}/lease.json", []
    dead = locks._Lease(fs, path, "a machine that is gone", "one")
    dead.acquire(heard.append)
    with locks.leased(fs, path, "the next", heard.append, "two"):
        assert locks.LOST_SECONDS < clock.now < locks.LOST_SECONDS + 5 * locks.LEASE_POLL_SECONDS and heard == ["a machine that is gone"]
        dead.release()  # it wakes up: the lease is no longer its own
        third, long_enough = locks._Lease(fs, path, "third", "three"), threading.Event()

        def until_renewed() -> None:
            """The holder writes its lease anew, or lets go, between any two looks."""
            seen, deadline = third._read(), time.monotonic() + 300
            while seen is not None and third._read() == seen and time.monotonic() < deadline:
                time.sleep(0.001)
            if clock.now > 3 * locks.LOST_SECONDS:
                long_enough.set()

        clock.now, clock.between = 0.0, until_renewed
        waiting = threading.Thread(target=third.acquire, args=(heard.append,))
        waiting.start()
        assert long_enough.wait(300), "it was taken over although it is renewed"
        assert waiting.is_alive() and heard[-1] == "the next" and not third._is_own()
    waiting.join(300)
    assert not waiting.is_alive() and third._is_own()


def test_a_store_that_is_away_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the renewals nor what was made under the lease: drivers say it in errors of their own (botocore's are no OSError)."""
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.001)
    away, asked = threading.Event(), threading.Event()

    class Flaky(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
        cachable = False

        def cat_file(self, *given: object, **more: object) -> object:
            if away.is_set():
                asked.set()
                raise RuntimeError("Could not connect to the endpoint URL")
            return super().cat_file(*given, **more)

    fs, path = Flaky(), f"/{tmp_path.name}/lease.json"
    with locks.leased(fs, path, "one", print, "here"):
        away.set()
        assert asked.wait(300)
        away.clear()
        before = json.loads(fs.cat_file(path))["renewals"]
        deadline = time.monotonic() + 300
        while json.loads(fs.cat_file(path))["renewals"] == before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert json.loads(fs.cat_file(path))["renewals"] > before, "it is renewed again"
        away.set()


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
