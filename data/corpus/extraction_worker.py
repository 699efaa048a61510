"""The child that extracts text, `python -m data.corpus.extraction_worker`: pages in by its stdin, texts out by stdout.

A page that takes more processor time than allowed ends the child by SIGPROF: a busy machine changes no result. A page
that hangs without working is ended from outside; should the parent be gone, the child ends by itself, at the end of
stdin while it waits, by an alarm while it works.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import BinaryIO

HEAD = struct.Struct("<cI")  # kind of message, bytes that follow
READY, TEXT, MEMORY, FAILED = b"r", b"t", b"m", b"f"
WALL_FACTOR = 4  # a page may wait for the processor this many times its limit
# Below 250 characters trafilatura falls back on coarser engines that lose lines and repeat layout tables; a Chinese
# article of 100 characters says as much as an English one of 250.
_MIN_UNSPACED_CHARACTERS = 100
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_CACHE_PAGES = 200  # trafilatura's caches are emptied after so many pages, to bound memory


def engine(name: str) -> Callable[[str], str]:
    """The function that finds the main text of a page; "" where there is none."""
    if name == "resiliparse":
        from resiliparse.extract.html2text import extract_plain_text

        def by_resiliparse(page: str) -> str:
            return extract_plain_text(
                page, main_content=True, alt_texts=False, list_bullets=False, preserve_formatting=True
            )

        return by_resiliparse

    from trafilatura import extract
    from trafilatura.settings import DEFAULT_CONFIG

    spaced, unspaced = deepcopy(DEFAULT_CONFIG), deepcopy(DEFAULT_CONFIG)
    for config in (spaced, unspaced):
        config["DEFAULT"]["MAX_FILE_SIZE"] = str(1 << 31)  # ingest has bounded it
    unspaced["DEFAULT"]["MIN_EXTRACTED_SIZE"] = str(_MIN_UNSPACED_CHARACTERS)

    def by_trafilatura(page: str) -> str:
        config = unspaced if len(_UNSPACED.findall(page)) >= _MIN_UNSPACED_CHARACTERS else spaced
        # No `deduplicate`: its cache would make a page's text depend on the pages before it.
        return extract(page, fast=name == "trafilatura_fast", include_comments=False, config=config) or ""

    return by_trafilatura


def reset_caches() -> None:
    from trafilatura.meta import reset_caches as reset

    reset()


def serve(name: str, memory_megabytes: int, timeout_seconds: float, inward: BinaryIO, outward: BinaryIO) -> None:
    extract = engine(name)
    _limit_memory(memory_megabytes)
    _send(outward, READY, b"")
    served = 0
    while head := inward.read(4):
        page = inward.read(int.from_bytes(head, "little"))
        signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds * WALL_FACTOR + 5)
        try:
            kind, text = TEXT, extract(page.decode("utf-8", "replace"))
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
        if served % _CACHE_PAGES == 0 and name != "resiliparse":
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
