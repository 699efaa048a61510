"""The deployments and the compose file: valid, complete, without default secrets."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.automations import SILENT_SECONDS, lost_workers
from tests.conftest import ROOT

SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "PREFECT_AUTH")


def test_every_deployment_names_a_flow_that_is_there() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    named = set()
    for deployment in deployments:
        file, function = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), function)
        named.add(f"{flow.name}/{deployment['name']}")
        assert deployment["work_pool"]["name"] in ("cpu", "gpu")
    assert {"retrain/weekly", "full_pipeline/production", "training/gpu", "evaluation/gpu", "housekeeping/daily"} <= named
    assert len(named) == len(deployments)


def test_compose_file_follows_the_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_demands_its_secrets_and_the_example_names_them() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line))
    for name in SECRETS:
        assert f"${{{name}:?" in text
        assert not re.search(rf"\$\{{{name}(:-|\}})", text), f"{name} has a default or is not demanded"
        assert example[name] == ""
    services = yaml.safe_load(text)["services"]
    assert {"postgres", "redis", "minio", "migration", "server", "services", "cpu-worker", "gpu-worker", "tensorboard"} <= set(services)
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    for name, service in services.items():
        assert re.search(r":[^:]*\d", service["image"]) and "latest" not in service["image"], f"{name}: the image is not pinned"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), f"{name}: a port is open to the world"


def test_a_silent_run_is_marked_after_two_missed_heartbeats() -> None:
    beat = int(yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * beat < SILENT_SECONDS < 90
    assert lost_workers().trigger.within.total_seconds() == SILENT_SECONDS  # type: ignore[union-attr]


def test_dockerfile_runs_as_nobody_special_and_pins_its_base() -> None:
    text = Path(ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-", text, re.M) and re.search(r"^USER (?!root)", text, re.M)


@pytest.mark.usefixtures("prefect_server")
def test_housekeeping_removes_what_ended_long_ago() -> None:
    from prefect import flow, get_client

    from flows.housekeeping import housekeeping

    @flow
    def old() -> int:
        return 1

    old()
    with get_client(sync_client=True) as client:
        assert client.read_flow_runs()
        housekeeping(keep_days=1)
        assert client.read_flow_runs()  # nothing is that old
        housekeeping(keep_days=0)
        left = client.read_flow_runs()
    assert len(left) <= 2  # itself, and what ended this very second
