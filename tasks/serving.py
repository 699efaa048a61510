"""A local model behind an OpenAI-compatible server on loopback, for as long as a stage needs it: `transformers serve`.

Of the two ways to ask a local model, a server that the stage starts and a job of the training half, the server is the one that
keeps: the HTTP teacher's cache, limits and errors serve both near and far models, and batches of requests come as they come.
The data half knows no torch; the server is a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.jobs import die_with_parent, end, environment, explain, free_port

START_SECONDS = 600.0  # to load the model; a large one takes minutes
EXTRA = "openai"  # the one package of the extra `serve` that nothing else brings


class ServingError(ValueError):
    """The model cannot be served: says which, and quotes what the server said last."""


@dataclass(frozen=True)
class Served:
    """Where a model is asked, under which name, and what each request must say beside its prompt."""

    url: str
    model: str
    extra: dict[str, Any]


@contextmanager
def served(model: str, log: Path) -> Iterator[Served]:
    """Serve `model`, a Hugging Face folder.

    Raises:
        ServingError: the extra is missing, there is no such model, or the server dies before it answers.
    """
    if importlib.util.find_spec(EXTRA) is None:
        raise ServingError("a local model is served by `transformers serve`, which needs the extra: pip install 'crawl2chat[serve]'")
    if not (Path(model) / "config.json").is_file():
        raise ServingError(f"{model} is no model folder: it holds no config.json")
    port = free_port()
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port),
        "--log-level", "warning", "--model-timeout", "-1",
    ]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, process_group=0, preexec_fn=die_with_parent,
            env={**environment(1, None), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    try:
        _wait(process, port, model, log)
        yield Served(f"http://127.0.0.1:{port}/v1", model, {"generation_config": json.dumps(_sampling(Path(model)))})
    finally:
        end(process)


def _sampling(model: Path) -> dict[str, Any]:
    """The model's own generation settings, but sampling: a model that says nothing of it would answer greedily whatever the temperature."""
    file = model / "generation_config.json"
    own: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {**own, "do_sample": True}


def _wait(process: subprocess.Popen[bytes], port: int, model: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServingError(f"`transformers serve {model}` ended with exit status {process.returncode}:\n{explain(log)}")
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False).status_code == 200:  # no proxy stands between
                return
        time.sleep(0.2)
    raise ServingError(f"`transformers serve {model}` did not answer within {START_SECONDS:g} s:\n{explain(log)}")
