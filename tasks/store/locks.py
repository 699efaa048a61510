"""One maker at a time: who wants what another process is making waits for it, and goes on where that one dies.

On one machine by a file lock, which the kernel lets go when its holder dies. In a store that several machines share by a
lease as well: a small object that its holder writes anew every RENEW_SECONDS, and that is taken over when nobody has done
so for LOST_SECONDS, by the waiting machine's own clock. Two machines that take over in the same instant would both make the
artifact, which costs work and does no harm: the content is the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec

RENEW_SECONDS = 10.0
LOST_SECONDS = 60.0  # five renewals missed and some
POLL_SECONDS = 0.2
LEASE_POLL_SECONDS = 2.0  # each is a request to the store

Waiting = Callable[[str], None]  # is told, once, who holds it


@contextlib.contextmanager
def held(file: Path, holder: str, waiting: Waiting) -> Iterator[None]:
    """Hold `file` among the processes and threads of this machine."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as stream:
        told = False
        while not _locked(stream.fileno()):
            if not told:
                stream.seek(0)
                waiting(stream.read() or "another process")
                told = True
            time.sleep(POLL_SECONDS)  # not one long wait: a cancel or a time limit arrives in between
        stream.truncate(0)
        stream.write(holder)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def is_free(file: Path) -> bool:
    """Whether nobody on this machine holds `file`."""
    if not file.exists():
        return True
    with file.open("a+", encoding="utf-8") as stream:
        return _locked(stream.fileno())


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def leased(fs: fsspec.AbstractFileSystem, path: str, holder: str, waiting: Waiting, machine: str) -> Iterator[None]:
    """Hold the lease at `path` of a shared store.

    `machine` names those who share a file lock, and the caller holds it: a lease that one of them has left is nobody's.
    """
    lease = _Lease(fs, path, holder, machine)
    lease.acquire(waiting)
    ended = threading.Event()
    renewing = threading.Thread(target=lease.renew, args=(ended,), daemon=True, name=f"lease of {path}")
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        lease.release()


class _Lease:
    def __init__(self, fs: fsspec.AbstractFileSystem, path: str, holder: str, machine: str) -> None:
        self.fs, self.path, self.holder, self.machine = fs, path, holder, machine
        self.token, self.renewals = uuid.uuid4().hex, 0

    def acquire(self, waiting: Waiting) -> None:
        seen: dict[str, Any] | None = None
        since = 0.0
        told = False
        while not self._create():
            found = self._read()
            if found is None:
                continue  # let go this moment
            if found["machine"] == self.machine:
                self._remove()
                continue
            if not told:
                waiting(found["holder"])
                told = True
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > LOST_SECONDS:
                self._remove()
                continue
            time.sleep(LEASE_POLL_SECONDS)

    def renew(self, ended: threading.Event) -> None:
        """Until it ends, or another has taken it over because this machine slept."""
        while not ended.wait(RENEW_SECONDS):
            with contextlib.suppress(Exception):  # the store may be away for a moment, which drivers say in errors of their own kinds
                if not self._is_own():
                    return
                self.renewals += 1
                self.fs.pipe_file(self.path, self._content())

    def release(self) -> None:
        """A lease that cannot be let go is lost in time: no reason to fail what was made under it."""
        with contextlib.suppress(Exception):
            if self._is_own():
                self._remove()

    def _create(self) -> bool:
        try:
            self.fs.pipe_file(self.path, self._content(), mode="create")
        except OSError:
            if self._read() is None:
                raise
            return False
        return self._is_own()  # a store that knows no exclusive writing keeps the last writer

    def _is_own(self) -> bool:
        found = self._read()
        return found is not None and found["token"] == self.token

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.fs.cat_file(self.path))
        except FileNotFoundError:
            return None
        return found

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path)

    def _content(self) -> bytes:
        return json.dumps({"holder": self.holder, "machine": self.machine, "token": self.token, "renewals": self.renewals}).encode()
