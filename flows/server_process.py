"""The process of temporary_server.py: Prefect's API and UI for one run, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn


def main() -> None:
    """Serve, print the port when ready, end when standard input does; at once where a server is configured."""
    serving: list[uvicorn.Server] = []

    def end_with_owner() -> None:
        sys.stdin.buffer.read()
        if not serving:
            os._exit(0)  # nothing was served yet, and the imports may take seconds more
        serving[0].should_exit = True

    threading.Thread(target=end_with_owner, daemon=True, name="owner watch").start()
    gc.disable()  # until all is imported, as in temporary_server.begin_for_command
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        os._exit(0)
    import uvicorn
    from prefect.server.api import server
    from starlette.routing import Mount

    server.background_worker = _no_background_worker  # type: ignore[attr-defined]
    app = server.create_app(ephemeral=True, final=True)
    gc.freeze()
    gc.enable()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(port, flush=True)

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with temporary_settings({PREFECT_UI_API_URL: f"http://127.0.0.1:{port}/api"}):
        (ui,) = (route for route in app.routes if isinstance(route, Mount) and route.name == "ui")
        ui.app = _Pages()  # Prefect gives an ephemeral server none
        serving.append(Server(uvicorn.Config(app, log_level="error", lifespan="on")))
        serving[0].run(sockets=[listening])
    os._exit(0)  # everything is written; taking the interpreter down takes seconds


@contextlib.asynccontextmanager
async def _no_background_worker(*given: Any, **more: Any) -> AsyncIterator[None]:
    """In the place of Prefect's, which looks for work four times a second and takes a hundredth of a processor to find none: what it does
    is for schedules, workers and pauses, and to remove the log lines of a run that a person deletes."""
    yield


class _Pages:
    """The UI, as an ASGI application that is made when somebody first looks: for most runs nobody does."""

    def __init__(self) -> None:
        self.app: Any = None
        self.making = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self.making:
            if self.app is None:
                from prefect.server.api.server import create_ui_app

                self.app = await asyncio.to_thread(create_ui_app, ephemeral=False)
        await self.app(scope, receive, send)


if __name__ == "__main__":
    main()
