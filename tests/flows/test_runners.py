"""The same corpus whoever works on its shards."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dask_and_ray_give_the_bytes_of_the_process_pool(tmp_path: Path) -> None:
    """A local cluster of two workers each; the shards are small, so that every stage has several groups."""
    pytest.importorskip("prefect_dask")
    pytest.importorskip("prefect_ray")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    found = {}
    for kind in ("processes", "dask", "ray"):
        settings = [f"runner.kind={kind}", "runner.workers=2", "ingest.shard_documents=40"]
        overrides = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "flows.full_pipeline", "--store", str(tmp_path / kind), "--until", "corpus", *overrides]
        done = subprocess.run(command, cwd=ROOT, env=kept | {"PREFECT_HOME": str(tmp_path / "home")}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        found[kind] = _hashes(tmp_path / kind)
    assert len(found["processes"]) > 100
    assert found["dask"] == found["processes"]
    assert found["ray"] == found["processes"]
