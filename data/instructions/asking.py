"""Several questions at a time, whose answers nobody waits for who has been told to stop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def answers(ask: Callable[[Question], Answer], questions: Sequence[Question], at_a_time: int) -> Iterator[Answer]:
    """The answers in the order of the questions, `at_a_time` of them asked at once; raises what `ask` raises, where its answer is due.

    By threads that an interrupt (Ctrl-C, a cancelled run) leaves behind. A ThreadPoolExecutor waits for its own, again at the end of the
    process, and a teacher may take minutes over an answer that is no longer wanted. After an error those that are asked already are waited
    for: they are paid, and a cache keeps them.
    """
    waiting: queue.SimpleQueue[tuple[Future[Answer], Question]] = queue.SimpleQueue()
    futures: list[Future[Answer]] = [Future() for _ in questions]
    for pair in zip(futures, questions, strict=True):
        waiting.put(pair)

    def work() -> None:
        while True:
            try:
                future, question = waiting.get_nowait()
            except queue.Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(ask(question))
            except BaseException as error:  # raised again by the thread that waits for it
                future.set_exception(error)

    threads = [threading.Thread(target=work, daemon=True, name="asking") for _ in range(min(at_a_time, len(questions)))]
    for thread in threads:
        thread.start()
    try:
        for future in futures:
            yield future.result()
    except Exception:
        _give_up(futures)
        for thread in threads:
            thread.join()
        raise
    finally:
        _give_up(futures)


def _give_up(futures: Sequence[Future[Answer]]) -> None:
    """What nobody has begun to ask is not asked."""
    for future in futures:
        future.cancel()
