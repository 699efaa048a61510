"""A Prefect server for one run, where none is configured: as a process it ends when the run does, however that ends.

Prefect can start one itself, but to do so it imports the whole server in the process that waits (two to four seconds of
every run), and leaves the server behind when that process is killed.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_API_URL, get_current_settings

if TYPE_CHECKING:
    import uvicorn

# On a fresh machine the first start migrates an empty database and compiles the server's modules: 20 s were not enough.
START_SECONDS = 180.0
STOP_SECONDS = 10.0

# Every commit of these services may refuse a request that reads before it writes (SQLite: 503, tried again two seconds
# later), so they write in few large pieces. A server with a database of its own needs no such manners.
QUIET = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "10",
}


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
        env={**QUIET, **os.environ, **chosen},
    )
    atexit.register(_stop, process)
    return process


def begin_for_command() -> None:
    """For a module that is run as a command, before its other imports: begin, if the command will need a server of its own."""
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
    """Serve the API on a free port of the loopback, print the port when ready, end when standard input does."""
    serving: list[uvicorn.Server] = []

    def end_with_owner() -> None:
        sys.stdin.buffer.read()
        if not serving:
            os._exit(0)  # nothing was served yet, and the imports may take seconds more
        serving[0].should_exit = True

    threading.Thread(target=end_with_owner, daemon=True, name="owner watch").start()
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(listening.getsockname()[1], flush=True)

    listening = socket.create_server(("127.0.0.1", 0))
    serving.append(Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on")))
    serving[0].run(sockets=[listening])


if __name__ == "__main__":
    main()
