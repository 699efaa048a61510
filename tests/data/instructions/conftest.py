"""What the instruction tests share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.data.instructions.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
