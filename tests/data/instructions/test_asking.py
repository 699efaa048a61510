"""Questions that are asked at once: their order, their errors, and an interrupt in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data.instructions.asking import answers
from tests.conftest import ROOT

# A teacher who takes a minute over an answer, asked through the journal or for embeddings as the stages do.
ASKING = {
    "completions": """
from data.instructions.teacher import JournaledTeacher, Prompt
JournaledTeacher(HttpTeacher({url!r}, "slow"), Path({folder!r}) / "journal.jsonl", 2).complete_all([Prompt("hi", "en", call) for call in range(4)])
""",
    "embeddings": """
from data.instructions.embeddings import HttpEmbedder
from data.instructions.settings import TopicSettings
HttpEmbedder(TopicSettings(embedder_url={url!r}, embedder_model="slow"), None).embed(["a", "b"] * 100)
""",
}


def test_answers_come_in_the_order_of_the_questions() -> None:
    most, asked, lock = 0, 0, threading.Lock()

    def ask(seconds: float) -> float:
        nonlocal most, asked
        with lock:
            asked += 1
            most = max(most, asked)
        time.sleep(seconds)
        with lock:
            asked -= 1
        return seconds

    questions = [0.05, 0.0, 0.03, 0.01, 0.02]
    assert list(answers(ask, questions, 2)) == questions and most == 2
    assert list(answers(ask, [], 2)) == []


def test_an_error_comes_where_its_answer_is_due_and_after_what_was_asked() -> None:
    ended: list[int] = []

    def ask(number: int) -> int:
        time.sleep(0.05 * number)
        ended.append(number)
        if number == 1:
            raise ValueError("no answer")
        return number

    found = answers(ask, range(20), 3)
    assert next(found) == 0
    with pytest.raises(ValueError, match="no answer"):
        next(found)
    assert 2 in ended and len(ended) < 10  # what was asked is waited for, and no more is


@pytest.mark.parametrize("kind", sorted(ASKING))
def test_an_interrupt_waits_for_no_answer(kind: str, tmp_path: Path) -> None:
    """A cancelled run had to be killed: its process waited for the teacher, for a minute an answer."""
    server = subprocess.Popen([sys.executable, "-c", "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.listen(); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert server.stdout
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    code = "from pathlib import Path\nfrom data.instructions.http_teacher import HttpTeacher\nprint('asking', flush=True)" + ASKING[kind].format(url=url, folder=str(tmp_path))
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert asking.stdout and asking.stdout.readline() == "asking\n"
        time.sleep(2)
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=60)  # the teacher's own limit is 120
        assert "KeyboardInterrupt" in said
    finally:
        for process in (asking, server):
            process.kill()
            process.wait()
