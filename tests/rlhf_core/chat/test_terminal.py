"""The chat as a person has it: the program on a pseudo-terminal, keys in, screen out."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rlhf_core.toy import Chain

QUESTION = "What is the capital of Ald?"
STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program on a terminal of 100 columns."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "rlhf_core.chat", "--max-new-tokens", "12", "--threads", "1", *arguments]
        root = Path(__file__).parents[3]
        # a session of its own with the terminal as its own, or Ctrl-C is a letter and no signal
        self.process = subprocess.Popen(
            ["setsid", "-c", "-w", *command], stdin=slave, stdout=slave, stderr=slave, close_fds=True, env=environment, cwd=root
        )
        os.close(slave)
        self.screen, self.pieces = "", 0

    def until(self, pattern: str, seconds: float = 120) -> str:
        """What comes on the screen up to the pattern's end; `pieces` counts the reads that it took."""
        end, self.pieces = time.monotonic() + seconds, 0
        while not (found := re.search(pattern, self.screen, re.DOTALL)):
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"waited for {pattern!r}, saw {self.screen[-500:]!r}"
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # the program is gone
                piece = b""
            assert piece, f"the program ended before {pattern!r}: {self.screen[-500:]!r}"
            self.pieces += 1
            self.screen += STEERING.sub("", piece.decode("utf-8", "replace")).replace("\r\n", "\n")
        said, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return said

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ask(self, line: str) -> str:
        """Type a line and take what comes up to the next prompt, without the echo."""
        self.type(line + "\n")
        return self.until(r"\n> ").partition("\n")[2].removesuffix("> ")

    def interrupted(self, tries: int = 20) -> int:
        """The exit status after Ctrl-C. Python's readline looks for signals before it waits for keys: one that comes in between is
        seen with the next key, so the key is pressed again, as a person would."""
        for _ in range(tries):
            self.type("\x03")
            try:
                return self.process.wait(3)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError(f"still running after {tries} times Ctrl-C")


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)  # whoever is left on the terminal is hung up


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_model_remembers_and_obeys(chain: Chain, open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal(str(chain.world / "sft"), "--reward-model", str(chain.world / "reward"))
    terminal.until(r"> $")
    first = terminal.ask(QUESTION)
    assert re.search(r"\w", first) and re.search(r"\(reward -?\d+\.\d\d", first)
    assert "/system TEXT" in terminal.ask("/help")
    assert "new conversation" in terminal.ask("/new")
    assert terminal.ask("\x1b[A\x1b[A\x1b[A") == first, "three lines up in the history stands the question; forgotten, it gets the same answer"
    assert "there is no command /sing" in terminal.ask("/sing")
    assert "new conversation" in terminal.ask("/system 请简短。")
    assert re.search(r"\(reward", terminal.ask("阿尔德的首都是哪里？"))
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_models_stand_side_by_side(chain: Chain, open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal(str(chain.world / "sft"), "--second", str(chain.world / "pretrain"), "--reward-model", str(chain.world / "reward"))
    terminal.until(r"> $")
    said = terminal.ask(QUESTION)
    rows = [line for line in said.splitlines() if "│" in line]
    assert rows[0].split("│")[0].strip() == "[sft]" and rows[0].split("│")[1].strip() == "[pretrain]" and len(rows) > 1
    assert len({row.index("│") for row in rows}) == 1
    assert re.search(r"\(sft: reward -?\d", said) and re.search(r"\(pretrain: reward -?\d", said)
    assert terminal.interrupted() == 0  # at the prompt Ctrl-C ends the program


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_answer_comes_piece_by_piece(chain: Chain, open_terminal: Callable[..., Terminal]) -> None:
    """A base model goes on until it is stopped: of so long an answer the beginning is on the screen before the end."""
    terminal = open_terminal(str(chain.world / "pretrain"), "--max-new-tokens", "60", "--temperature", "1")
    terminal.until(r"> $")
    said = terminal.ask(QUESTION)
    assert len(said) > 20 and terminal.pieces > 4, (terminal.pieces, said)
