"""The same corpus whoever works on its shards."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from prefect import flow

from data.document import Counts
from flows.local import task_runner, workers
from flows.recipe import Runner
from tasks.shards import map_shards
from tests.conftest import ROOT


def test_an_address_is_of_a_cluster() -> None:
    with pytest.raises(ValueError, match="only a dask or ray runner"):
        Runner(kind="threads", address="tcp://host:8786")


def process_of(shard: Path, out: Path, index: int) -> Counts:
    (out / f"{index}").write_text(str(os.getpid()))
    return Counts()


@pytest.mark.usefixtures("prefect_server")
def test_the_flows_own_settings_choose_its_workers(tmp_path: Path) -> None:
    """However a flow was started, and whatever runner it was defined with: a deployed part has only its parameters."""

    @flow
    def part(kind: str) -> set[str]:
        with workers(Runner.model_validate({"kind": kind, "workers": 1})):
            map_shards("process of", process_of, [tmp_path] * 3, tmp_path / kind, tmp_path / f"{kind}-done", workers=2)
        return {path.read_text() for path in (tmp_path / kind).iterdir()}

    assert part("threads") == {str(os.getpid())}
    processes = part("processes")
    assert len(processes) == 1 and processes != {str(os.getpid())}
    with pytest.raises(RuntimeError, match="there is none around this"), workers(Runner()):
        pass


@pytest.mark.parametrize(("kind", "module"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_a_missing_extra_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'crawl2chat\[{kind}\]'"):
        task_runner(Runner(kind=kind))  # type: ignore[arg-type]


def _hashes(store: Path) -> dict[str, str]:
    """Of every table of every artifact; a stage's address is the same, as its runner is no part of the fingerprint."""
    return {str(path.relative_to(store)): hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(store.rglob("*.parquet"))}


def _corpus_by(home: Path, kind: str, store: Path, address: str | None = None) -> dict[str, str]:
    """The corpus of the samples; the shards are small, so that every stage has several groups."""
    settings = [f"runner.kind={kind}", "runner.workers=2", "ingest.shard_documents=40", *([f"runner.address={address}"] if address else [])]
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.full_pipeline", "--store", str(store), "--until", "corpus", *overrides]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(command, cwd=ROOT, env=kept | {"PREFECT_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return _hashes(store)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the worker processes of one machine make."""
    folder = tmp_path_factory.mktemp("processes")
    found = _corpus_by(folder / "home", "processes", folder / "store")
    assert len(found) > 100
    return found


@contextmanager
def _dask() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@contextmanager
def _ray() -> Iterator[str]:
    """A cluster that demands a token, as Ray's are where one lies about when they are started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--num-cpus=2", f"--port={port}", "--include-dashboard=false"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        head = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert head.stdout is not None
        try:
            assert any("Ray runtime started" in line for line in head.stdout)
            yield f"127.0.0.1:{port}"
        finally:
            for process in (psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)):
                process.terminate()
            head.communicate()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "running"),
    [("dask", None), ("ray", None), ("dask", _dask), ("ray", _ray)],
    ids=["dask", "ray", "dask by address", "ray by address"],
)
def test_a_cluster_gives_the_bytes_of_the_worker_processes(
    kind: str, running: Callable[[], AbstractContextManager[str]] | None, expected: dict[str, str], tmp_path: Path
) -> None:
    """Two workers each: of a cluster that the run starts for itself, and of one that runs already."""
    pytest.importorskip(f"prefect_{kind}")
    with running() if running else nullcontext() as address:
        assert _corpus_by(tmp_path / "home", kind, tmp_path / "store", address) == expected
