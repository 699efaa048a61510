"""A Prefect server for one run, where none is configured: as a process it ends when the run does, however that ends.

Prefect can start one itself, but to do so it imports the whole server in the process that waits (two to four seconds of
every run), and leaves the server behind when that process is killed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_UI_API_URL,
    get_current_settings,
    temporary_settings,
)

if TYPE_CHECKING:
    import uvicorn

# On a fresh machine the first start migrates an empty database and compiles the server's modules: 20 s were not enough.
START_SECONDS = 180.0
STOP_SECONDS = 10.0

# What one run needs of a server, and nothing else: nobody installs automations on one that ends with the run, and blocks are
# registered by a server that stays. Its database may hold runs of years, and a person looks at them with `prefect server start`.
# Every commit of its services may refuse a request that reads before it writes (SQLite: 503, tried again two seconds later), so
# what must be written is written in few large pieces.
LEAN = {
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
}
# And what its client need not ask it: the same installation has no other version, and the loopback forges no requests.
CLIENT: dict[Any, Any] = {PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}


@functools.cache
def begin() -> subprocess.Popen[bytes]:
    """Start it without waiting for it. It needs as long for its imports as a flow for its own: both can go on side by side.

    It is stopped at the interpreter's exit, after Prefect's own threads have handed in their last events and log lines.
    """
    chosen = get_current_settings().to_environment_variables(exclude_unset=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.temporary_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**LEAN, **os.environ, **chosen},
    )
    atexit.register(_stop, process)
    return process


def begin_for_command() -> None:
    """For a module that is run as a command, before its other imports, in which nothing becomes garbage (a seventh of their time;
    local.ensure_server ends that): begin, if the command will need a server of its own."""
    gc.disable()
    if not PREFECT_API_URL.value() and not {"-h", "--help"} & set(sys.argv):
        begin()


def start() -> str:
    """Start it, if that has not begun, and return its API's URL when it answers. Raises OSError where it does not start."""
    return f"http://127.0.0.1:{_port(begin())}/api"


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes]) -> int:
    """What the server says when it is ready for requests."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        late = "" if ready else f" within {START_SECONDS:.0f} s"
        raise OSError(f"the temporary Prefect server did not start{late}; its own words are above, or set PREFECT_API_URL to one that runs")
    return int(line)


def main() -> None:
    """Serve API and UI on a free port of the loopback, print the port when ready, end when standard input does."""
    serving: list[uvicorn.Server] = []

    def end_with_owner() -> None:
        sys.stdin.buffer.read()
        if not serving:
            os._exit(0)  # nothing was served yet, and the imports may take seconds more
        serving[0].should_exit = True

    threading.Thread(target=end_with_owner, daemon=True, name="owner watch").start()
    gc.disable()  # as in begin_for_command
    import uvicorn
    from prefect.server.api import server
    from starlette.routing import Mount

    server.background_worker = _no_background_worker  # type: ignore[attr-defined]
    app = server.create_app(ephemeral=True, final=True)
    gc.freeze()
    gc.enable()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(port, flush=True)

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with temporary_settings({PREFECT_UI_API_URL: f"http://127.0.0.1:{port}/api"}):
        (ui,) = (route for route in app.routes if isinstance(route, Mount) and route.name == "ui")
        ui.app = _Pages()  # Prefect gives an ephemeral server none
        serving.append(Server(uvicorn.Config(app, log_level="error", lifespan="on")))
        serving[0].run(sockets=[listening])
    os._exit(0)  # everything is written; taking the interpreter down takes seconds


@contextlib.asynccontextmanager
async def _no_background_worker(*given: Any, **more: Any) -> AsyncIterator[None]:
    """In the place of Prefect's, which looks for work four times a second and takes a hundredth of a processor to find none: what it does
    is for schedules, workers and pauses, and to remove the log lines of a run that a person deletes."""
    yield


class _Pages:
    """The UI, as an ASGI application that is made when somebody first looks: for most runs nobody does."""

    def __init__(self) -> None:
        self.app: Any = None
        self.making = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self.making:
            if self.app is None:
                from prefect.server.api.server import create_ui_app

                self.app = await asyncio.to_thread(create_ui_app, ephemeral=False)
        await self.app(scope, receive, send)


if __name__ == "__main__":
    main()
