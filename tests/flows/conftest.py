"""What the flow tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PREFECT_HOME that is no person's."""
    return tmp_path_factory.mktemp("prefect")
