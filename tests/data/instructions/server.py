"""A model's server on loopback that does everything a server should not."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.data.instructions.test_self_instruct import block


class Server(ThreadingHTTPServer):
    """Answers request k as script[k] says; the last entry goes on for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = ["ok"]
        self.seen: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up leaves a broken pipe: part of the game, and not worth a traceback."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            self.answer()
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.seen)
            self.server.seen.append(body)
            self.server.authorizations.append(self.headers.get("Authorization"))
        act = self.server.script[min(number, len(self.server.script) - 1)]
        good = answer(block(4, f"Tell me about {number} of the rivers.", "It is long."), "stop")
        if act == "ok":
            self.send(200, good)
        elif act == "length":
            self.send(200, answer("cut of", "length"))
        elif act == "hang up":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif act == "truncate":
            self.send(200, good[:40], length=len(good))
            self.close_connection = True
        elif act == "take a moment":
            time.sleep(0.05)
            with self.server.lock:  # before the client can ask again
                self.server.in_flight -= 1
            self.send(200, good)
            with self.server.lock:
                self.server.in_flight += 1
        elif act == "slow":
            time.sleep(4)
        elif act == "drip":
            self.send(200, "", length=1000)
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
        elif act == "redirect":
            self.send(307, "", headers={"Location": "http://127.0.0.1:1/elsewhere"})
        elif isinstance(act, str | bytes):
            self.send(200, act)
        else:
            status, text, headers = act
            self.send(status, text, headers=headers)

    def send(self, status: int, text: str | bytes, length: int | None = None, headers: dict[str, str] | None = None) -> None:
        payload = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()


def answer(text: str, reason: str) -> str:
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}], "usage": usage})
