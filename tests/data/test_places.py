from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data.places import file_system, remove_at_once


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in ("registry", "_registry"):  # drivers that another test has loaded
        monkeypatch.setattr(sys.modules["fsspec.registry"], known, {})
    for module in ("s3fs", "aiohttp", "fsspec.implementations.http", "gcsfs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"s3:// needs a driver: pip install 'crawl2chat\[s3\]'"):
        file_system("s3://bucket/crawl")
    with pytest.raises(ValueError, match=r"https:// needs a driver: pip install 'crawl2chat\[http\]'"):
        file_system("https://a.example/crawl.warc.gz")
    with pytest.raises(ValueError, match=r"gs:// needs a driver: .*gcsfs"):
        file_system("gs://bucket/crawl")
    with pytest.raises(ValueError, match="Protocol not known: nothing"):
        file_system("nothing://x")


def test_a_folder_that_another_has_removed_is_no_error(tmp_path: Path) -> None:
    remove_at_once(tmp_path / "gone")
    assert not list(tmp_path.iterdir())
