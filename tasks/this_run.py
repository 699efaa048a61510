"""The run that is going on, as Prefect knows it."""

from __future__ import annotations

import functools
import socket

from prefect.runtime import deployment, flow_run


def is_deployed() -> bool:
    """Whether it is a deployment's, or part of one that is; False outside of any run."""
    return flow_run.id is not None and _is_deployed(flow_run.id)


@functools.cache
def _is_deployed(flow_run_id: str) -> bool:
    """Kept, since where there is no deployment Prefect asks the server each time: for the run with its whole recipe, by a new client."""
    return deployment.id is not None


def name() -> str:
    """What others that wait for it read in their log."""
    return f"run {flow_run.name} ({flow_run.id[:8]}) on {socket.gethostname()}" if flow_run.id else f"a process on {socket.gethostname()}"
