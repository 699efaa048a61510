"""The stack of docker-compose.yml without containers: the same commands, started natively, torn down whole."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
REDIS = shutil.which("redis-server")


FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def missing() -> str | None:
    """What this machine lacks for the stack."""
    lacking = [name for name, found in [("postgresql", POSTGRES), ("redis-server", REDIS), ("moto_server", moto())] if not found]
    return ", ".join(lacking) or None


def moto() -> str | None:
    beside = Path(sys.executable).parent / "moto_server"
    return str(beside) if beside.exists() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], complaint: str, seconds: float, pause: float = 0.2) -> Any:
    """Poll until `condition` is true; its value, or an assertion with the complaint."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, complaint
        time.sleep(pause)


@dataclass
class Stack:
    """Addresses and processes of a running stack."""

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)  # where a worker says that it lives

    def start(self, name: str, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        """Start a service in a session of its own; its output goes to NAME.log."""
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            command, cwd=ROOT, env={**self.environment, **more}, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        return self.processes[name]

    def prefect(self, name: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        return self.start(name, [sys.executable, "-m", "prefect", *arguments], **more)

    def worker(self, pool: str) -> subprocess.Popen[bytes]:
        """Its sign of life at a port of its own: in a container 8080 is free, here another worker has it."""
        port = self.ports[f"{pool}-worker"] = free_port()
        command = ["worker", "start", "--pool", pool, "--type", "process", "--with-healthcheck"]
        return self.prefect(f"{pool}-worker", *command, PREFECT_WORKER_WEBSERVER_HOST="127.0.0.1", PREFECT_WORKER_WEBSERVER_PORT=str(port))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The server's API, as any client with the password sees it (writing needs a token against forged requests)."""
        password = base64.b64encode(self.environment["PREFECT_API_AUTH_STRING"].encode()).decode()
        headers = {"Authorization": f"Basic {password}", "Content-Type": "application/json"}
        if method != "GET":
            headers["Prefect-Csrf-Client"] = "tests"
            headers["Prefect-Csrf-Token"] = self.call("GET", "/csrf-token?client=tests")["token"]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.environment["PREFECT_API_URL"] + path, method=method, data=data, headers=headers)

        def answered() -> list[bytes]:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return [answer.read()]
            except urllib.error.HTTPError as error:
                if error.code != 503:  # a busy SQLite; every client of Prefect asks again
                    raise
                return []

        [text] = until(answered, f"{method} {path}: no answer but 503", 120)
        return json.loads(text) if text else None

    def create(self, deployment: str, **parameters: Any) -> str:
        """A run of the deployment FLOW/NAME, as the UI's form makes it: its id."""
        found = self.call("GET", f"/deployments/name/{deployment}")
        return str(self.call("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"])

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/flow_runs/{run}")["state"]
        return found

    def reaches(self, run: str, *types: str, seconds: float = 900) -> dict[str, Any]:
        """The run's state, once it is of one of `types`; an assertion where it ends in another."""

        def there() -> dict[str, Any] | None:
            try:
                state = self.state(run)
            except TimeoutError:  # a busy SQLite on a busy machine
                return None
            assert state["type"] in types or state["type"] not in FINAL, state
            return state if state["type"] in types else None

        found: dict[str, Any] = until(there, f"run {run} never came to {types}", seconds, pause=0.5)
        return found

    def answer(self, run: str, **given: Any) -> None:
        """What a person says to a suspended run."""
        answered = self.call("POST", f"/flow_runs/{run}/resume", {"run_input": given})
        assert answered["status"] == "ACCEPT", answered

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300)

    def engines(self, worker: str, run: str) -> list[psutil.Process]:
        """Processes below a worker that work on the run."""
        found = []
        for process in _children(self.processes[worker].pid):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run:
                    found.append(process)
        return found

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        family = [process.pid, *(child.pid for child in _children(process.pid))]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.wait()

    def stop_all(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _with_password(folder: Path) -> dict[str, str]:
    """The environment of a server behind a password, and of those who know it."""
    auth = f"admin:{secrets.token_hex(12)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_WAIT_POLICY": "PASSIVE",
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api", "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_AUTH_STRING": auth, "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_WORKER_QUERY_SECONDS": "1", "CRAWL2CHAT_HOME": str(ROOT),
    }  # fmt: skip


def deploy(stack: Stack, store: str) -> None:
    done = stack.python("-m", "flows.deploy", "--recipe", "tiny", "--store", store)
    assert done.returncode == 0, done.stderr[-3000:]


@contextlib.contextmanager
def small(folder: Path) -> Iterator[Stack]:
    """One server on SQLite behind a password, with the deployments and a folder as store; workers are the tests' own matter."""
    stack = Stack(folder, _with_password(folder) | {"PREFECT_WORKER_QUERY_SECONDS": "3"})  # each is a write that SQLite's others wait for
    try:
        start_server(stack, services=True)
        deploy(stack, str(folder / "store"))
        yield stack
    finally:
        stack.stop_all()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Postgres, Redis, S3, migration, server, background services and both workers; everything ends with the block."""
    assert POSTGRES
    assert REDIS
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("postgres", "redis", "s3")}
    password = secrets.token_hex(12)
    redis = f"redis://:{password}@127.0.0.1:{ports['redis']}"
    stack = Stack(folder, _with_password(folder) | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect@127.0.0.1:{ports['postgres']}/prefect",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging", "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
        "PREFECT_REDIS_MESSAGING_URL": f"{redis}/0", "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis}/0", "PREFECT_SERVER_DOCKET_URL": f"{redis}/1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
    })  # fmt: skip
    try:
        _postgres(stack, folder / "postgres", ports["postgres"])
        stack.start("redis", [REDIS, "--port", str(ports["redis"]), "--bind", "127.0.0.1", "--requirepass", password, "--dir", str(folder), "--save", ""])
        stack.start("s3", [str(moto()), "-H", "127.0.0.1", "-p", str(ports["s3"])])
        migration = stack.prefect("migration", "server", "database", "upgrade", "-y")
        assert migration.wait(timeout=180) == 0, stack.log("migration")[-2000:]
        start_server(stack)
        stack.prefect("services", "server", "services", "start")
        yield stack
    finally:
        stack.stop_all()


def start_server(stack: Stack, services: bool = False) -> None:
    """The server; its background services are a process of their own unless `services`."""
    port = stack.environment["PREFECT_API_URL"].split(":")[2].split("/")[0]
    stack.prefect("server", "server", "start", "--host", "127.0.0.1", "--port", port, *([] if services else ["--no-services"]))
    ready = stack.environment["PREFECT_API_URL"] + "/ready"
    until(lambda: answers(ready), f"the server never became ready: {stack.log('server')[-2000:]}", 300)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _postgres(stack: Stack, data: Path, port: int) -> None:
    """A database of its own; Postgres refuses to run as root, so root lends it to the user `postgres`."""
    assert POSTGRES
    data.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(data, "postgres")
        for parent in data.parents:
            if parent == Path("/tmp") or not str(parent).startswith("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o055)
        as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_user, str(POSTGRES / "initdb"), "-D", str(data), "-U", "prefect", "-A", "trust"], check=True, capture_output=True, cwd="/")
    stack.start("postgres", [*as_user, str(POSTGRES / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"])
    create = [str(POSTGRES / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect"]
    until(lambda: subprocess.run(create, capture_output=True).returncode == 0, f"no database: {stack.log('postgres')[-1000:]}", 60)
