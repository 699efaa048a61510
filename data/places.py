"""Where files lie: local paths and fsspec URLs, one file in two places, and a folder in none."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec

_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}  # of this project, by protocol


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises ValueError where its driver is not installed or nobody knows the protocol; the message names the way out.
    """
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(url.split("://", 1)[0])
        way = f"pip install 'crawl2chat[{extra}]'" if extra else str(error)
        raise ValueError(f"{url.split('://', 1)[0]}:// needs a driver: {way}") from error
    return found


def link_file(source: str | Path, target: str | Path) -> None:
    """`source` also as `target`, in a folder that is there: a hard link, or a copy where the file system knows none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def remove_at_once(folder: Path) -> None:
    """Remove a folder that tells what is done by what lies in it: after a kill in the middle nothing of it is left under its name.
    Nothing happens where another has removed it."""
    gone = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        os.rename(folder, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)
