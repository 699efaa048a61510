"""Old runs leave the server, and with them all that they left there; what is recent stays."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.flows.stack import Stack, free_port, until

ONE_RUN = """
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

@task
def work():
    create_markdown_artifact("a picture", key="picture")
    get_run_logger().info("said")

@flow(name="weekly")
def weekly():
    work()

weekly()
"""


@pytest.mark.usefixtures("prefect_server")
def test_what_ended_long_ago_goes() -> None:
    from prefect import flow, get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.runtime import flow_run

    from flows.housekeeping import housekeeping

    @flow
    def old() -> None:
        runs.append(flow_run.get_id())

    runs: list[str] = []
    old()
    with get_client(sync_client=True) as client:
        housekeeping(keep_days=1)
        assert str(client.read_flow_run(UUID(runs[0])).id) == runs[0]  # it is not that old
        assert housekeeping(keep_days=0) >= 2  # it, and the housekeeping before this one
        with pytest.raises(ObjectNotFound):
            client.read_flow_run(UUID(runs[0]))
        # What lies on the server from other tests stays where it has never ended: a run that waits for a person, say.
        assert all(run.end_time is None or run.name.startswith("keep 0") for run in client.read_flow_runs())


@pytest.mark.usefixtures("prefect_server")
def test_task_runs_of_a_crashed_or_killed_run_do_not_run_for_ever() -> None:
    from prefect import flow, get_client, task
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
    from prefect.runtime import flow_run
    from prefect.states import Cancelled, Crashed, Running

    from flows import lost_tasks

    @task
    def nothing() -> None: ...

    @flow
    def weekly() -> str:
        return str(flow_run.get_id())

    lost, killed, living = UUID(weekly()), UUID(weekly()), UUID(weekly())
    with get_client(sync_client=True) as client:
        tasks = [client.create_task_run(nothing, run, "key", state=Running()).id for run in (lost, killed, living)]
        client.set_flow_run_state(lost, Crashed(message="No sign of life"), force=True)
        client.set_flow_run_state(killed, Cancelled(), force=True)
        assert lost_tasks.end(client, living) == 0
        assert lost_tasks.end(client) >= 2
        assert lost_tasks.end(client, lost) == 0
        found = client.read_task_runs(task_run_filter=TaskRunFilter(id=TaskRunFilterId(any_=tasks)))
    assert {one.id: one.state_name for one in found} == {tasks[0]: "Crashed", tasks[1]: "Crashed", tasks[2]: "Running"}


@pytest.mark.usefixtures("prefect_server")
def test_a_run_that_waits_for_a_person_and_was_taken_for_lost_waits_again() -> None:
    """The server misses the event of its suspension, hears no more heartbeats, and marks it Crashed."""
    from prefect import flow, get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed, Running, Suspended

    from flows import waiting_runs
    from flows.automations import NEVER_BEGUN, NO_SIGN_OF_LIFE

    @flow
    def weekly() -> None: ...

    def run(*states: State) -> UUID:
        made = client.create_flow_run(weekly)
        for state in states:
            client.set_flow_run_state(made.id, state, force=True)
        return made.id

    def waiting() -> State:
        return Suspended(timeout_seconds=3600, pause_key="approve-ppo")

    with get_client(sync_client=True) as client:
        mistaken = [run(Running(), waiting(), Crashed(message=said)) for said in (NO_SIGN_OF_LIFE, NEVER_BEGUN)]
        others = [run(Running(), Crashed(message=NO_SIGN_OF_LIFE)), run(Running(), waiting(), Crashed(message="by itself")), run(Crashed(message=NEVER_BEGUN))]
        assert waiting_runs.suspend_again(client) == 2
        found = {one: client.read_flow_run(one).state for one in mistaken + others}
        assert waiting_runs.suspend_again(client) == 0
    assert [(state.name, state.state_details.pause_key) for one in mistaken if (state := found[one])] == [("Suspended", "approve-ppo")] * 2
    assert [state.name for one in others if (state := found[one])] == ["Crashed"] * 3


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("days", ["-1", "soon"])
def test_a_wrong_number_of_days_is_refused(days: str) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.housekeeping import housekeeping

    with pytest.raises(ParameterTypeError, match="keep_days"):
        housekeeping(keep_days=days)


# ---- on a server of its own ----


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Stack]:
    """A server on SQLite whose services sweep every second, as those of docker-compose.yml do every hour and every day."""
    text = (ROOT / "docker-compose.yml").read_text()
    chosen = yaml.safe_load(text)["x-server"]["environment"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    port = free_port()
    stack = Stack(tmp_path, kept | {
        "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "1",
        **{name: chosen[name] for name in ("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "PREFECT_SERVER_EVENTS_RETENTION_PERIOD")},
    })  # fmt: skip
    try:
        stack.prefect("server", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        until(lambda: _is_ready(stack), "the server never started", 300)
        yield stack
    finally:
        stack.stop("server")


def _is_ready(stack: Stack) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(stack.environment["PREFECT_API_URL"] + "/ready", timeout=5).status_code == 200
    return False


@contextlib.contextmanager
def database(stack: Stack) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(stack.folder / "home" / "prefect.db", timeout=60)) as connection, connection:
        yield connection


def rows(stack: Stack, table: str, where: str = "1") -> int:
    with database(stack) as connection:
        return int(connection.execute(f"select count(*) from {table} where {where}").fetchone()[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_of_an_old_run_stays_in_the_database(served: Stack) -> None:
    for _ in range(3):
        done = served.python("-c", ONE_RUN)
        assert done.returncode == 0, done.stderr[-2000:]
    until(lambda: rows(served, "log") >= 3 and rows(served, "events") >= 12, "logs and events never arrived", 60)
    whole = {table: rows(served, table) for table in ("flow_run", "task_run", "flow_run_state", "artifact", "log", "events")}
    assert (whole["flow_run"], whole["task_run"], whole["artifact"]) == (3, 3, 3)

    def ago(days: int) -> str:
        return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}"

    with database(served) as connection:  # two runs of long ago, one of 80 days; half of the events of 31 days, half of 29
        runs = [row[0] for row in connection.execute("select id from flow_run order by created")]
        connection.executemany("update flow_run set end_time = ? where id = ?", [(ago(91), runs[0]), (ago(400), runs[1]), (ago(80), runs[2])])
        connection.execute("update events set occurred = case when rowid % 2 then ? else ? end", (ago(31), ago(29)))
        half = connection.execute("select count(*) from events where rowid % 2 = 0").fetchone()[0]

    done = served.python("-m", "flows.housekeeping", "--keep-days", "90")
    assert done.returncode == 0 and "2 flow runs that ended before" in done.stdout + done.stderr, done.stderr[-2000:]
    with database(served) as connection:
        left = [row[0] for row in connection.execute("select r.id from flow_run r join flow f on f.id = r.flow_id where f.name = 'weekly'")]
    assert left == [runs[2]]
    old = f"flow_run_id in ('{runs[0]}', '{runs[1]}')"
    for table in ("task_run", "flow_run_state", "artifact", "log"):
        until(lambda table=table: rows(served, table, old) == 0, f"{table} keeps what an old run left", 60)
        assert rows(served, table, f"flow_run_id = '{runs[2]}'") > 0
    until(lambda: rows(served, "events", f"occurred < '{ago(30)}'") == 0, "old events stay", 60)
    assert rows(served, "events") >= half
