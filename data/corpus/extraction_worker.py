"""The child that extracts text, `python -m data.corpus.extraction_worker`: pages in by its stdin, texts out by stdout.

A page that takes more processor time than allowed ends the child by SIGPROF: a busy machine changes no result. A page
that hangs without working is ended from outside; should the parent be gone, the child ends by itself, at the end of
stdin while it waits, by an alarm while it works. It also leaves after a while without work, and after so many pages that what
libxml2 keeps of each one's names would fill its memory.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

HEAD = struct.Struct("<cI")  # of an answer: its kind, bytes that follow
PAGE_HEAD = struct.Struct("<IB")  # of a page: its bytes and those of the name of its encoding, which comes first
READY, TEXT, MEMORY, FAILED = b"r", b"t", b"m", b"f"
WALL_FACTOR = 4  # a page may wait for the processor this many times its limit
_IDLE_SECONDS = 30  # without a page; then its memory is worth more than its start
_MOST_PAGES = 20_000
_CACHE_PAGES = 200  # trafilatura's caches are emptied after so many pages, to bound memory
_GARBAGE = 50_000  # new objects before the collector looks for circles: a page's elements make none


def engine(name: str) -> Callable[[str], str]:
    # Here, so that the parent imports none of it.
    from data.corpus.main_text import ENGINES
    from data.corpus.quickened_trafilatura import quicken_trafilatura

    quicken_trafilatura()
    return ENGINES[name]


def serve(name: str, memory_megabytes: int, timeout_seconds: float, inward: BinaryIO, outward: BinaryIO) -> None:
    from trafilatura.meta import reset_caches

    from data.corpus.reading.charset import decode

    extract = engine(name)
    gc.freeze()  # what was imported is never looked through again
    gc.set_threshold(_GARBAGE)
    _limit_memory(memory_megabytes)
    _send(outward, READY, b"")
    served = 0
    while served < _MOST_PAGES and select.select([inward], [], [], _IDLE_SECONDS)[0] and (head := inward.read(PAGE_HEAD.size)):
        length, charset_length = PAGE_HEAD.unpack(head)
        charset, page = inward.read(charset_length).decode("ascii"), inward.read(length)
        signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds * WALL_FACTOR + 5)
        try:
            kind, text = TEXT, extract(decode(page, charset))
        except MemoryError:
            kind, text = MEMORY, ""
        except Exception as error:  # a page may break the parser in any way
            kind, text = FAILED, f"{type(error).__name__}: {error}"[:300]
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(outward, kind, text.encode("utf-8", "replace"))
        if kind == MEMORY:
            return  # a fresh child has a whole address space
        served += 1
        if served % _CACHE_PAGES == 0:
            reset_caches()


def _limit_memory(megabytes: int) -> None:
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(outward: BinaryIO, kind: bytes, body: bytes) -> None:
    outward.write(HEAD.pack(kind, len(body)))
    outward.write(body)
    outward.flush()


def main(arguments: list[str]) -> None:
    for alarm in (signal.SIGALRM, signal.SIGPROF):  # end the process, inside C code too
        signal.signal(alarm, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(20_000)
    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not get into the answers
    with contextlib.suppress(BrokenPipeError):
        serve(arguments[0], int(arguments[1]), float(arguments[2]), inward, outward)


if __name__ == "__main__":
    main(sys.argv[1:])
