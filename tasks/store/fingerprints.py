"""Fingerprints: the same stage, settings and inputs always have the same address."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel

from data.places import file_system

_HASHED_AT_ONCE = 8  # files


def significant(settings: BaseModel) -> dict[str, Any]:
    """The settings that say what comes out. Fields marked `fingerprint: False` are left out, input files are hashed."""
    kept: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if extra.get("fingerprint") is False:
            continue
        kept[name] = _significant_value(getattr(settings, name), is_file=bool(extra.get("file")))
    return kept


def _significant_value(value: Any, is_file: bool) -> Any:
    if isinstance(value, BaseModel):
        return significant(value)
    if isinstance(value, list | tuple):
        return [_significant_value(item, is_file) for item in value]
    if isinstance(value, dict):
        return {str(key): _significant_value(item, is_file) for key, item in value.items()}
    if is_file and value is not None:
        return hash_files(value)
    return value


def fingerprint(stage: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """24 hex digits of BLAKE2b over canonical JSON. `inputs`: role -> fingerprint; where an input lies does not count."""
    payload = json.dumps(
        {
            "stage": stage,
            "version": version,
            "settings": settings,
            "inputs": dict(inputs),
        },
        sort_keys=True,
        ensure_ascii=False,
        default=str,
    )
    return hashlib.blake2b(payload.encode(), digest_size=12).hexdigest()


def hash_files(path: str) -> str:
    """Hash of a file's content, or of the relative names and contents of a folder's or a glob's files."""
    fs, plain = file_system(path)
    found: list[str] = [plain] if fs.exists(plain) else sorted(fs.glob(plain)) if fsspec.core.has_magic(plain) else []
    if not found:
        raise FileNotFoundError(f"no such file, folder or glob: {path}")
    files = sorted(name for entry in found for name in (fs.find(entry) if fs.isdir(entry) else [entry]))
    if isinstance(fs, LocalFileSystem):  # a pipe would be waited for, a link to nowhere is nothing
        files = [name for name in files if os.path.isfile(name)]
    if not files:
        raise FileNotFoundError(f"no files in {path}")
    if len(files) == 1 and not fs.isdir(found[0]):
        return _hash_stream(fs, files[0])
    root = os.path.commonpath([os.path.dirname(name) for name in files])
    total = hashlib.blake2b(digest_size=12)
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:  # reading and hashing leave Python's lock to others
        for name, of_file in zip(files, pool.map(partial(_hash_stream, fs), files), strict=True):
            total.update(f"{os.path.relpath(name, root)}\0{of_file}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _hash_stream(fs: fsspec.AbstractFileSystem, name: str) -> str:
    """Of the content, or of the tag by which an object store knows it: a crawl in a bucket is not read for its name's sake."""
    digest = hashlib.blake2b(digest_size=12)
    info = fs.info(name)
    if tag := info.get("ETag") or info.get("etag") or info.get("md5Hash"):
        digest.update(f"{info.get('size')} {tag}".encode())
        return digest.hexdigest()
    with fs.open(name, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
