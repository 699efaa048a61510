"""A Prefect server for one run, where none is configured: as a process it ends when the run does, however that ends.

Prefect can start one itself, but to do so it imports the whole server in the process that waits (two to four seconds of
every run), and leaves the server behind when that process is killed.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import subprocess
import sys
import threading

from prefect.settings import get_current_settings

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


def start() -> str:
    """Start it and return its API's URL. Raises OSError where it does not start.

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
    return f"http://127.0.0.1:{_port(process)}/api"


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
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(listening.getsockname()[1], flush=True)

    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on"))

    def end_with_owner() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_owner, daemon=True, name="owner watch").start()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
