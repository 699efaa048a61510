"""What every test stands on: a quiet Prefect, one server for the session, the real inputs where they are at hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.update(
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED="false",
    PREFECT_SERVER_UI_ENABLED="false",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2"),
)

import pytest
from hypothesis import settings

# A shell has what it starts in the background ignore interrupts, and all below it: then no worker could be stopped.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The plain suite tries the same examples every time: a run that fails is about the commit it ran on. New ones are looked for by
# `pytest --hypothesis-profile=wide`, and what it finds becomes a line in a test.
settings.register_profile("plain", derandomize=True, deadline=None)
settings.register_profile("wide", max_examples=5000, deadline=None)
settings.load_profile("plain")

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "real"


@pytest.fixture(scope="session")
def real() -> Path:
    """Real pages, seed tasks and rankings; the test is skipped where they are not at hand."""
    if not REAL.is_dir():
        pytest.skip("../shared/real is not here")
    return REAL


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Address of one temporary Prefect server for all tests that run flows."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield PREFECT_API_URL.value()
