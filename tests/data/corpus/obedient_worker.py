"""An extraction child that does what the page says, for the tests of its limits."""

from __future__ import annotations

import os
import signal
import sys
import time

from data.corpus import extraction_worker

_kept: list[bytearray] = []


def obey(page: str) -> str:
    if page == "pid":
        return str(os.getpid())
    if page == "hoard":
        _kept.append(bytearray(100 << 20))
    if page == "leave":
        extraction_worker._IDLE_SECONDS = 0
    if page == "spin":
        while True:
            pass
    if page == "sleep":
        time.sleep(60)
    if page == "eat":
        hoard = [bytearray(64 << 20) for _ in range(100)]
        return str(len(hoard))
    if page == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if page == "exit":
        os._exit(3)
    if page == "raise":
        raise RuntimeError("no luck")
    return page


if __name__ == "__main__":
    extraction_worker.engine = lambda name: obey
    extraction_worker.main(sys.argv[1:])
