"""The server of one run: it answers while its owner lives, and is gone when the owner is."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import local, temporary_server

OWNER = "import sys; from flows import temporary_server as t; print(t.start(), flush=True); sys.stdin.read()"


def test_it_serves_the_ui_and_a_killed_owner_leaves_no_server(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {"PREFECT_HOME": str(home)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout
    url = owner.stdout.readline().strip()
    assert httpx.get(f"{url}/health").json() is True
    page = httpx.get(url.replace("/api", "/runs"), headers={"Accept": "text/html"}, follow_redirects=True, timeout=120)  # the first copies its files
    assert page.status_code == 200 and "<html" in page.text
    assert httpx.get(url.replace("/api", "/ui-settings")).json()["api_url"] == url
    (server,) = psutil.Process(owner.pid).children()
    owner.send_signal(signal.SIGKILL)
    owner.wait(30)
    deadline = time.monotonic() + 15
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_one_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    temporary_server.begin.cache_clear()
    with pytest.raises(OSError, match=r"temporary Prefect server did not start.*PREFECT_API_URL"):
        temporary_server.start()
    temporary_server.begin.cache_clear()


def test_workers_of_a_run_know_its_server_by_their_environment() -> None:
    """The thread of a worker that sends log lines has the environment alone; without it every worker started a server of its own."""
    asked = "from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value())"
    calling = f"""
import subprocess, sys
from flows import local
local.temporary_server.start = lambda: "http://127.0.0.1:1/api"
local.ensure_server()
local.ensure_server()
subprocess.run([sys.executable, "-c", {asked!r}], check=True)
"""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    said = subprocess.run([sys.executable, "-c", calling], capture_output=True, text=True, check=True, env=alone)
    assert said.stdout.strip() == "http://127.0.0.1:1/api"


@pytest.mark.parametrize(("answer", "said"), [(None, "no Prefect server answers at"), (401, "wants a password: set PREFECT_API_AUTH_STRING"), (500, "cannot answer: 500")])
def test_a_server_that_cannot_be_used_is_one_line(answer: int | None, said: str) -> None:
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer or 0)
            self.end_headers()

        def log_message(self, *given: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        address = f"http://127.0.0.1:{server.server_port}/api"
        if answer:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        else:
            server.socket.close()
        with temporary_settings({PREFECT_API_URL: address}), pytest.raises(ConnectionError, match=said) as refusal:
            local.require_server()
        assert address in str(refusal.value) and "\n" not in str(refusal.value)
        if answer:
            server.shutdown()


def test_a_profile_that_names_a_server_needs_none_of_its_own(tmp_path: Path) -> None:
    """It is begun before Prefect, which alone can read a profile, is imported."""
    (tmp_path / "profiles.toml").write_text('active = "own"\n[profiles.own]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n', encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {"PREFECT_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-m", "flows.server_process"], stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_beginning_it_waits_for_no_import_of_prefect() -> None:
    asked = "import sys; from flows import temporary_server; print('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.strip() == "False"
