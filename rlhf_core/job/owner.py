"""A rank does not outlive the task that owns its job: when the owner is gone, so is the rank, within two seconds."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import time

import psutil

OWNER = "CRAWL2CHAT_OWNER"  # host:pid:start time, as set by tasks/jobs.py
SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork


def end_with_parent() -> None:
    """In a new process: the kernel sends it SIGTERM when its parent dies, however that dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def watch() -> None:
    """Start the watch; without an owner in the environment, or with one on another host, there is nothing to watch."""
    host, _, rest = os.environ.get(OWNER, "").partition(":")
    if host != socket.gethostname():
        return
    pid, _, started = rest.partition(":")
    threading.Thread(
        target=_until_gone, args=(int(pid), float(started)), daemon=True, name="owner watch"
    ).start()


def _until_gone(pid: int, started: float) -> None:
    while _alive(pid, started):
        time.sleep(SECONDS)
    os._exit(1)  # not sys.exit: the main thread may hang in a collective


def _alive(pid: int, started: float) -> bool:
    try:
        owner = psutil.Process(pid)
        return owner.status() != psutil.STATUS_ZOMBIE and abs(owner.create_time() - started) < 1.0
    except psutil.NoSuchProcess:
        return False
