"""A stand-in for `vllm serve`: the same doors, and behind them our own model, read from the folder that it serves.

It can be slow, die, or answer wrongly, as the tests want it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.generation.rollout import generate, noise
from rlhf_core.models.networks import load_plain


@dataclass
class StandIn:
    """asked: bodies of /v1/completions; loaded: how often the weights were read; spoil: changes an answer's ids."""

    folder: Path
    url: str = ""
    root: str = ""
    delay: float = 0.0
    busy: int = 0  # so many requests are refused with 503
    spoil: Callable[[list[int]], Any] = lambda ids: ids
    asked: list[dict[str, Any]] = field(default_factory=list)
    loaded: int = 0
    dies_after: int = 10**9  # completions
    cache_resets: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.read()

    def read(self) -> None:
        self.chat = load_chat(str(self.folder))
        self.model = load_plain(str(self.folder), "fp32").eval()
        self.loaded += 1

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.delay)
        with self.lock:  # torch is asked by one thread at a time
            self.asked.append(body)
            uniforms = noise(body["seed"], 0, 1, body["max_tokens"])
            rollout = generate(
                self.model, self.chat, [body["prompt"]], body["max_tokens"], body["temperature"], uniforms
            )
        (ids,) = rollout.responses()
        return {"choices": [{"index": 0, "text": "", "token_ids": self.spoil(ids), "finish_reason": "stop"}]}


@contextmanager
def stand_in(folder: Path, **ways: Any) -> Iterator[StandIn]:
    state = StandIn(folder, **ways)
    server = _listening(state, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def serve(folder: Path, port: int) -> None:
    """Until the process is ended."""
    _listening(StandIn(folder), port).serve_forever()


def _listening(state: StandIn, port: int) -> ThreadingHTTPServer:

    class Doors(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            card = {"id": "policy", "root": state.root or str(state.folder)}
            self.reply({"data": [card]} if self.path == "/v1/models" else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                if len(state.asked) >= state.dies_after:
                    self.close_connection = True
                    return
                if state.busy > 0:
                    state.busy -= 1
                    self.reply({"error": "busy"}, 503)
                    return
                self.reply(state.complete(body))
            elif self.path == "/collective_rpc" and body == {"method": "reload_weights"}:
                state.read()
                self.reply({"results": [None]})
            elif self.path == "/reset_prefix_cache":
                state.cache_resets += 1
                self.reply({})
            else:
                self.reply({"detail": "Not Found"}, 404)

        def reply(self, content: Any, status: int = 200) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # a rollout's answers are asked for at once; with the default of 5 some are refused

    server = Server(("127.0.0.1", port), Doors)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server
