from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from data.corpus import partitions
from data.corpus.partitions import deal


@pytest.mark.parametrize("at_once", [1, 7, 1 << 17])
def test_every_row_lies_in_its_file_in_order(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "_ROWS_AT_ONCE", at_once)
    for name in ("x-0", "x-4"):
        (tmp_path / name).write_bytes(b"of an attempt that was killed")
    parts = [np.arange(10), np.arange(0), np.arange(10, 30)]
    deal(iter(parts), tmp_path / "x", 5, lambda rows: rows % 4)
    found = [np.fromfile(tmp_path / f"x-{number}", np.int64).tolist() for number in range(5)]
    assert found == [list(range(number, 30, 4)) for number in range(4)] + [[]]
    deal(iter(()), tmp_path / "y", 1, lambda rows: rows)
    assert (tmp_path / "y-0").read_bytes() == b""


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    """A crawl of billions of pages has thousands of partitions; a process may have some thousand files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        deal([np.arange(300)], tmp_path / "x", 300, lambda rows: rows)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list(tmp_path.iterdir())) == 300
