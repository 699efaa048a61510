"""What a task knows of the run around it."""

from __future__ import annotations

import socket

import pytest

from tasks import this_run


class Asked:
    """In the place of Prefect's runtime: counts how often the server was asked."""

    def __init__(self, deployment: str | None) -> None:
        self.deployment, self.times = deployment, 0

    @property
    def id(self) -> str | None:
        self.times += 1
        return self.deployment


@pytest.mark.parametrize("deployment", [None, "a-deployment"])
def test_the_server_is_asked_once_for_each_run(monkeypatch: pytest.MonkeyPatch, deployment: str | None) -> None:
    asked = Asked(deployment)
    monkeypatch.setattr(this_run, "deployment", asked)
    for number, run in enumerate([f"one {deployment}", f"other {deployment}"], start=1):
        monkeypatch.setattr(this_run, "flow_run", type("Runtime", (), {"id": run}))
        assert [this_run.is_deployed() for _ in range(3)] == [deployment is not None] * 3
        assert asked.times == number


def test_outside_of_a_run_nobody_is_asked_and_the_machine_is_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked("a-deployment")
    monkeypatch.setattr(this_run, "deployment", asked)
    assert this_run.is_deployed() is False and asked.times == 0
    assert this_run.name() == f"a process on {socket.gethostname()}"
