"""What there is to read: files under a path, a glob or any fsspec URL, and Hugging Face datasets; big ones in parts.

A part is a range of bytes (archives, JSON lines), of row groups (Parquet) or of rows (datasets). Which records belong
to which part is a matter of the file alone, so parts are read by different workers, and again after a kill, and the
documents are the same as if the file had been read in one piece.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus.reading import hub
from data.corpus.reading.chunks import BrokenStream
from data.corpus.reading.streams import COMPRESSION_ENDINGS, ByteReader, codec_of, open_chunks
from data.places import file_system

_KINDS = {
    ".warc": "warc", ".wet": "warc", ".wat": "warc", ".arc": "arc",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
}  # fmt: skip
# What else a mirrored site's pages are called; a file of such a name that is no page is dropped for that.
_PERHAPS_PAGES = ("", ".shtml", ".xht", ".php", ".asp", ".aspx", ".jsp", ".cfm")
_SAVED_DATASET = ("state.json", "dataset_dict.json")  # beside the .arrow files of datasets.save_to_disk
READ = "WARC, ARC, WET, HTML, JSON or Parquet"
_ELSE = f"tables in other formats, as CSV: {hub.SCHEME}FOLDER"
_HTML_FILES = 1000  # HTML files read as one input
_DATASET_ROWS = 100_000  # rows of a dataset read as one input
_LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype|html|head|body|title|meta|p|div|h1)\b", re.IGNORECASE)
_SECRET = re.compile(r"^[a-z0-9+.:-]*://[^/@]*:[^/@]*@", re.IGNORECASE)


@dataclass(frozen=True)
class InputFile:
    """One unit of reading: a file, a part of one, or up to a thousand HTML files of one folder tree."""

    name: str  # relative to the corpus
    kind: str  # warc, arc, html, jsonl, parquet, dataset
    paths: tuple[str, ...]  # local paths or fsspec URLs
    names: tuple[str, ...]  # of `paths`, relative to the corpus
    start: int = 0  # of the part: bytes, row groups or rows
    end: int | None = None  # None = to the end

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.end is None


def open_input(path: str) -> BinaryIO:
    """`path` (local, or an fsspec URL) for reading, seekable. Raises OSError."""
    if "://" not in path:
        return open(path, "rb")
    fs, name = file_system(path)
    return cast(BinaryIO, fs.open(name, "rb"))


def file_kind(name: str) -> str | None:
    """What a file is by its name; None = nothing we read, or not to be told by it."""
    return _KINDS.get(_ending(name))


def may_be_page(name: str) -> bool:
    """Whether a file of a mirrored site may be a page, although its name does not say so: about, index.php?id=3."""
    return _ending(name) in _PERHAPS_PAGES and not PurePosixPath(name).name.startswith("_")  # _SUCCESS and its like


def _ending(name: str) -> str:
    name = PurePosixPath(name).name.lower().partition("?")[0]
    for ending in (".bad", ".open"):  # crawlers' marks of unfinished archives
        name = name.removesuffix(ending)
    for ending in COMPRESSION_ENDINGS:
        name = name.removesuffix(ending)
    return PurePosixPath(name).suffix


def looks_like_html(head: bytes) -> bool:
    return _LOOKS_LIKE_HTML.search(head) is not None


def sniff_kind(path: str) -> str | None:
    """What a file without a telling name is, by its first bytes."""
    with open_input(path) as file:
        try:
            head = ByteReader(open_chunks(file, path)).peek(512)
        except BrokenStream:
            return None
    if head.startswith(b"WARC/"):
        return "warc"
    if head.startswith(b"filedesc://"):
        return "arc"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.lstrip().startswith(b"{"):
        return "jsonl"
    return "html" if looks_like_html(head) else None


def list_inputs(entry: str | Path, split_bytes: int | None = None) -> list[InputFile]:
    """Inputs under a file, a folder, a glob, an fsspec URL of these, or `dataset:...`, in the order of their names.

    Files larger than `split_bytes` come in parts where their format allows it. Files of an unknown type are left out,
    unless the argument names the file itself: that raises ValueError, as a URL with a password in it does; an argument
    that matches nothing raises FileNotFoundError.
    """
    text = str(entry)
    if dataset := hub.parse(text):
        rows = hub.count_rows(dataset)
        whole = InputFile(dataset.label, "dataset", (text,), (dataset.label,))
        return list(_ranges(whole, rows, _DATASET_ROWS)) if split_bytes else [whole]
    refuse_secrets(text)
    files = _find_files(text)
    inputs = _group(files)
    if split_bytes is None:
        return inputs
    sizes = {path: size for _, path, size in files}
    return [part for source in inputs for part in _split(source, sizes.get(source.paths[0], 0), split_bytes)]


def refuse_secrets(url: str) -> None:
    if _SECRET.match(url):
        place = url.split("@", 1)[1]
        raise ValueError(f"...@{place}: no password in a URL, it would stand in logs and manifests; use the environment of its fsspec driver")


def _find_files(text: str) -> list[tuple[str, str, int]]:
    """(relative name, path or URL, bytes), sorted by name."""
    fs, root = file_system(text)
    local = "://" not in text and "::" not in text
    url_of: Callable[[str], str] = str if local else fs.unstrip_protocol
    if fs.isfile(root):
        name = root.rsplit("/", 1)[-1]
        return [(name, url_of(root), int(fs.info(root)["size"] or 0))]
    found: dict[str, dict[str, Any]] = {}
    base = root.rstrip("/")
    if fs.isdir(root):
        found = fs.find(root, detail=True)
    elif fsspec.core.has_magic(root):
        base = re.split(r"[*?\[]", root)[0].rpartition("/")[0]
        for path, info in fs.glob(root, detail=True).items():
            found |= fs.find(path, detail=True) if info["type"] == "directory" else {path: info}
    if any(path.endswith(".arrow") for path in found) and any(path.endswith(_SAVED_DATASET) for path in found):
        raise ValueError(f"{text}: a dataset that save_to_disk wrote; name it {hub.SCHEME}{text}, with ?split=NAME where it has splits")
    named = []  # without folders, pipes, and links to nowhere
    for path, info in found.items():
        name = path[len(base) :].lstrip("/")
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and (file_kind(name) or may_be_page(name)) and (os.path.isfile(path) if local else info["type"] == "file"):
            named.append((name, url_of(path), int(info["size"] or 0)))
    if not named:
        raise FileNotFoundError(f"{text}: no {READ} file there; {_ELSE}")
    return sorted(named)


def _group(files: list[tuple[str, str, int]]) -> list[InputFile]:
    if len(files) == 1:
        name, path, _ = files[0]
        kind = file_kind(name) or sniff_kind(path)
        if kind is None:
            raise ValueError(f"{path}: not a file we read ({READ}); {_ELSE}")
        return [InputFile(name, kind, (path,), (name,))]
    inputs = []
    pages = [(name, path) for name, path, _ in files if file_kind(name) in ("html", None)]
    for at in range(0, len(pages), _HTML_FILES):
        names, paths = zip(*pages[at : at + _HTML_FILES], strict=True)
        inputs.append(InputFile(names[0], "html", paths, names))
    for name, path, _ in files:
        kind = file_kind(name)
        if kind and kind != "html":
            inputs.append(InputFile(name, kind, (path,), (name,)))
    return sorted(inputs, key=lambda item: item.name)


def _split(source: InputFile, size: int, split_bytes: int) -> Iterator[InputFile]:
    if size <= split_bytes or source.kind == "html":
        yield source
    elif source.kind == "parquet":
        yield from _split_parquet(source, split_bytes)
    else:
        with open_input(source.paths[0]) as file:
            codec = codec_of(file, source.name)
        # Lines of a gzip file start anywhere in its members, other formats have no members to start at.
        splittable = codec is None or (codec == "gzip" and source.kind in ("warc", "arc"))
        yield from _ranges(source, size, split_bytes) if splittable else [source]


def _ranges(source: InputFile, size: int, step: int) -> Iterator[InputFile]:
    starts = range(0, max(size, 1), step)
    for start in starts:
        yield replace(source, start=start, end=None if start + step >= size else start + step)


def _split_parquet(source: InputFile, split_bytes: int) -> Iterator[InputFile]:
    """Parts of row groups; a file whose footer cannot be read stays whole, and its reader says why."""
    try:
        with open_input(source.paths[0]) as file, pq.ParquetFile(file) as parquet:
            sizes = [parquet.metadata.row_group(group).total_byte_size for group in range(parquet.num_row_groups)]
    except (pa.ArrowException, OSError):
        yield source
        return
    starts, filled = [0], 0
    for group, size in enumerate(sizes):
        if filled and filled + size > split_bytes:
            starts.append(group)
            filled = 0
        filled += size
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        yield replace(source, start=start, end=end)


def local_name(entry: str) -> str:
    """The last part of a corpus entry's path, to tell the files of several entries apart."""
    dataset = hub.parse(entry)
    return os.path.basename(dataset.label if dataset else entry.rstrip("/"))
