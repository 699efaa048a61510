"""Old artifacts leave the store, what a kept model descends from stays; and what old runs left on this machine goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data.places import remove_at_once
from tasks import publishing
from tasks.store import locks
from tasks.store.artifacts import Artifact, Store


@dataclass(frozen=True)
class Plan:
    """What would leave the store, and what stays."""

    remove: list[Artifact]
    keep: list[Artifact]
    bytes: int  # of what leaves


def plan(store: Store, older_than: timedelta, keep: Iterable[str] = (), now: datetime | None = None) -> Plan:
    """Artifacts made longer ago than `older_than` that nothing kept descends from.

    Kept with all they descend from: every younger artifact, every published model that is or was in service with its
    report, and each `<stage>/<fingerprint>` in `keep` (ValueError where there is no such artifact).
    """
    now = now or datetime.now(UTC)
    artifacts = {f"{one.stage}/{one.fingerprint}": one for one in store.artifacts()}
    manifests = {name: store.manifest(one) for name, one in artifacts.items()}
    wanted = {name for name, manifest in manifests.items() if now - manifest.ended <= older_than}
    for name in keep:
        if name not in artifacts:
            raise ValueError(f"--keep: no artifact {name!r} in {store.url}")
        wanted.add(name)
    for service in publishing.services(store):
        entry = publishing.in_service(store, service)
        for published in [*publishing.history(store, service), *([entry] if entry else [])]:
            wanted |= {f"{one.stage}/{one.fingerprint}" for one in (published.model, published.report)} & artifacts.keys()
    kept: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in kept or name not in manifests:
            continue
        kept.add(name)
        waiting += [f"{given.stage}/{given.fingerprint}" for given in manifests[name].inputs.values() if given.stage]
    gone = [name for name in artifacts if name not in kept]
    size = sum(facts["bytes"] for name in gone for facts in manifests[name].files.values())
    return Plan(remove=[artifacts[name] for name in gone], keep=[artifacts[name] for name in kept], bytes=size)


@dataclass(frozen=True)
class Leftover:
    """A folder of this machine that nobody has used for long: a draft of a run that was not taken up again, or a remote artifact's copy."""

    folder: Path
    bytes: int


def leftovers(store: Store, older_than: timedelta, now: datetime | None = None) -> list[Leftover]:
    """Drafts that nobody works on and copies, last written or used longer ago than `older_than`."""
    oldest = ((now or datetime.now(UTC)) - older_than).timestamp()
    drafts = (one for one in store.workroot.iterdir() if one.is_dir() and (one / "work").is_dir() and locks.is_free(store.workroot / "locks" / one.name))
    copies = store.workroot.glob("copies/*/*")
    found = []
    for folder in sorted([*drafts, *copies]):
        facts = [(status.st_mtime, status.st_size) for status in _statuses(folder)]
        if max((time for time, _ in facts), default=0.0) <= oldest:
            found.append(Leftover(folder, sum(size for _, size in facts)))
    return found


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # a run that goes on meanwhile
            yield path.lstat()


def clear(leftovers: Iterable[Leftover]) -> None:
    for one in leftovers:
        remove_at_once(one.folder)


def prune(store: Store, plan: Plan) -> None:
    """Remove what the plan names. An artifact that a run is making or reading again meanwhile is simply made again."""
    for artifact in plan.remove:
        store.remove(artifact)
