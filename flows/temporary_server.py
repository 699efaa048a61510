"""A Prefect server for one run, where none is configured: as a process it ends when the run does, however that ends.

Prefect can start one itself, but to do so it imports the whole server in the process that waits (two to four seconds of
every run), and leaves the server behind when that process is killed. Nothing of Prefect is imported here: a command starts its
server (server_process.py) before it imports anything else.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import select
import subprocess
import sys

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


@functools.cache
def begin() -> subprocess.Popen[bytes]:
    """Start it without waiting for it. It needs as long for its imports as a flow for its own: both can go on side by side.

    It is stopped at the interpreter's exit, after Prefect's own threads have handed in their last events and log lines; where a
    profile names a server, which Prefect alone can read, it ends by itself.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**LEAN, **os.environ}
    )
    atexit.register(_stop, process)
    return process


def begin_for_command() -> None:
    """For a module that is run as a command, before its other imports, in which nothing becomes garbage (a seventh of their time;
    local.ensure_server ends that): begin, if the command will need a server of its own."""
    gc.disable()
    if not os.environ.get("PREFECT_API_URL") and not {"-h", "--help"} & set(sys.argv):
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
