"""Main text out of HTML, in a child process that can be killed.

`trafilatura.extract` may run for minutes on hostile HTML and libxml2 may crash; a page costs its limit, never the run.
Starting the child costs a third of a second, so it waits for its process's next shard, for half a minute; what it extracted before
changes no page's outcome.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

import pyarrow as pa

from data.corpus.extraction_worker import FAILED, HEAD, MEMORY, PAGE_HEAD, WALL_FACTOR
from data.document import DOCUMENT_SCHEMA, Decided, Verdict, decide
from data.settings import ExtractionSettings
from data.text import clean_text

_START_SECONDS = 120  # for the child's imports, on a busy machine too
WORKER = "data.corpus.extraction_worker"
_ROOT = Path(__file__).resolve().parents[2]


class _Lost(Exception):
    """The child is gone; says how, and by which signal."""

    def __init__(self, message: str, signal_number: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal_number


class Extractor:
    """Owns one child at a time, until `close`; safe in any thread or process that owns it alone."""

    def __init__(self, settings: ExtractionSettings) -> None:
        self.settings = settings
        self._child: subprocess.Popen[bytes] | None = None

    def extract(self, page: bytes, charset: str = "utf-8") -> tuple[str, Verdict | None]:
        """Main text of `page`, in the encoding of that Python name, or "" and why there is none.

        Where a child is lost that has extracted before, a fresh one tries again: it had left after a while without work, or what
        it had kept of other pages took the memory.
        """
        used = self._child is not None
        text, verdict = self._ask(page, charset)
        if used and verdict and verdict[0] in ("extraction_crashed", "extraction_memory"):
            return self._ask(page, charset)
        return text, verdict

    def _ask(self, page: bytes, charset: str) -> tuple[str, Verdict | None]:
        seconds = self.settings.timeout_seconds
        try:
            child = self._running()
            deadline = time.monotonic() + seconds * WALL_FACTOR
            name = charset.encode("ascii", "replace")[:255]  # an unknown name is utf-8
            self._write(child, PAGE_HEAD.pack(len(page), len(name)) + name, deadline)
            self._write(child, page, deadline)
            kind, answer = self._read(child, deadline)
        except TimeoutError:
            self.close()
            return "", ("extraction_timeout", f"{seconds:g} s")
        except _Lost as lost:
            self.close()
            if lost.signal == signal.SIGPROF:
                return "", ("extraction_timeout", f"{seconds:g} s")
            return "", ("extraction_crashed", str(lost))
        if kind == MEMORY:
            self.close()
            return "", ("extraction_memory", f"{self.settings.memory_megabytes} MiB")
        text = answer.decode("utf-8", "replace")
        return ("", ("extraction_failed", text)) if kind == FAILED else (text, None)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            settings = self.settings
            limits = [str(settings.memory_megabytes), str(settings.timeout_seconds)]
            self._child = subprocess.Popen(
                [sys.executable, "-m", WORKER, settings.engine, *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd=_ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
            try:
                self._read(self._child, time.monotonic() + _START_SECONDS)
            except (TimeoutError, _Lost) as error:
                self.close()
                raise RuntimeError(f"the extraction child does not start: {error}") from None
        return self._child

    @staticmethod
    def _write(child: subprocess.Popen[bytes], message: bytes, deadline: float) -> None:
        assert child.stdin is not None
        pipe = child.stdin.fileno()
        rest = memoryview(message)
        while rest:
            _, ready, _ = select.select([], [pipe], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            try:
                rest = rest[os.write(pipe, rest[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise _lost(child) from None

    @staticmethod
    def _read(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        received = bytearray()
        needed = HEAD.size
        while len(received) < needed:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(pipe, 1 << 18)
            if not part:
                raise _lost(child)
            received += part
            if needed == HEAD.size and len(received) >= HEAD.size:
                needed += HEAD.unpack(received[: HEAD.size])[1]
        return HEAD.unpack(received[: HEAD.size])[0], bytes(received[HEAD.size :])

    def close(self) -> None:
        """End the child, at once; `extract` starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _lost(child: subprocess.Popen[bytes]) -> _Lost:
    try:
        status = child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return _Lost("closed its pipe")
    return _Lost(f"signal {-status}", -status) if status < 0 else _Lost(f"exit status {status}")


_idle: deque[Extractor] = deque()  # of this process, whose children wait for its next shard; a deque's methods are atomic
os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


@contextmanager
def _extractor(settings: ExtractionSettings) -> Iterator[Extractor]:
    """One that an earlier shard has left, or a new one; after an error it is closed, else left to the next shard."""
    extractor = _left(settings) or _new(settings)
    try:
        yield extractor
    except BaseException:
        extractor.close()
        raise
    _idle.append(extractor)


def _left(settings: ExtractionSettings) -> Extractor | None:
    with suppress(IndexError):  # none there, or another thread was quicker
        while True:
            extractor = _idle.pop()
            if extractor.settings == settings:
                return extractor
            extractor.close()
    return None


def _new(settings: ExtractionSettings) -> Extractor:
    extractor = Extractor(settings)
    Finalize(None, extractor.close, exitpriority=0)  # at the end of a process of multiprocessing too, where atexit has no say
    return extractor


def close_idle() -> None:
    """End the children that wait for this process's next shard."""
    while _idle:
        _idle.pop().close()


def extract_text(pages: pa.Table, settings: ExtractionSettings) -> Decided:
    """Documents (DOCUMENT_SCHEMA) of pages; what is text already passes through.

    Reasons: extraction_timeout, extraction_crashed, extraction_memory, extraction_failed, empty_text (value: characters).
    """
    texts: list[str | None] = []
    verdicts: list[Verdict | None] = []
    with _extractor(settings) as extractor:
        for page in _rows(pages):
            verdict: Verdict | None = None
            text, html, charset = page
            if text is None:
                text, verdict = extractor.extract(html or b"", charset or "utf-8")
            text = clean_text(text).strip()
            if verdict is None and len(text) < settings.min_characters:
                verdict = ("empty_text", str(len(text)))
            texts.append(text)
            verdicts.append(verdict)
    at = pages.schema.get_field_index("text")
    documents = pages.set_column(at, pages.schema.field(at), pa.array(texts, pa.string()))
    return decide(documents.select(DOCUMENT_SCHEMA.names).cast(DOCUMENT_SCHEMA), verdicts)


def _rows(pages: pa.Table) -> list[tuple[str | None, bytes | None, str | None]]:
    columns = (pages[name].to_pylist() for name in ("text", "html", "charset"))
    return list(zip(*columns, strict=True))
