"""Headless Chromium as a person sits before it, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.flows.stack import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_SECONDS = 60.0


class Page:
    """One tab. What it asks of the page is asked in JavaScript, as a person would in the console."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result; events that arrive before it are kept in `events`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=START_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def text(self) -> str:
        """What a person can read, and what stands in the fields of a form."""
        return str(self.ask("document.body ? document.body.innerText : ''"))

    def shows(self, *texts: str, seconds: float = 60) -> str:
        """Wait until all of `texts` can be read; the whole text."""
        with_all = until(lambda: (text := self.text()) and all(one in text for one in texts) and text, f"the page shows no {texts}: {self.text()}", seconds)
        return str(with_all)

    def click(self, text: str, selector: str = "a, button, [role=tab]") -> None:
        """The first thing to click whose text is `text`, once it is there."""
        find = f"[...document.querySelectorAll({json.dumps(selector)})].find(one => one.innerText.trim() === {json.dumps(text)})"
        until(lambda: self.ask(f"Boolean({find})"), f"nothing to click is called {text!r}: {self.text()}", START_SECONDS)
        self.ask(f"{find}.click()")

    def type(self, selector: str, text: str) -> None:
        """Into the field, key by key as far as the page can tell."""
        until(lambda: self.ask(f"Boolean(document.querySelector({json.dumps(selector)}))"), f"no field {selector}: {self.text()}", START_SECONDS)
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def page(folder: Path, width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """A fresh browser with nothing remembered, and its one tab; both end with the block."""
    assert CHROMIUM
    process = subprocess.Popen(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
            "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=(folder.parent / f"{folder.name}.log").open("wb"), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = folder / "DevToolsActivePort"
        until(port_file.exists, "Chromium never started", START_SECONDS)
        port, path = until(lambda: (lines := port_file.read_text().split()) and len(lines) == 2 and lines, "no port", START_SECONDS)
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as browser:
            tab = Page(browser).send("Target.createTarget", url="about:blank")["targetId"]
            with connect(f"ws://127.0.0.1:{port}/devtools/page/{tab}", max_size=None) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
