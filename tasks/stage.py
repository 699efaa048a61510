"""What every task of this project does around its one call: look in the store, build, publish, show, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefect.client.schemas import State
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field

from tasks import show, this_run
from tasks.stopping import StopRule
from tasks.store.artifacts import Artifact, Draft, Files, Manifest, Result, Store


class Run(BaseModel):
    """What one run of the pipeline tells every stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str = Field(description="Folder or fsspec URL of the artifact store.")
    force: frozenset[str] = Field(frozenset(), description="Stages that are made again even if their artifact is there.")
    reuse_only: bool = Field(False, description="A stage whose artifact is not there is not made: its task ends as Missing.")
    workers: int = Field(1, ge=1, description="Shard groups at the same time.")
    gpu: str | None = Field(
        None,
        description="Name of the deployments that run what needs a GPU: with gpu these are training/gpu, evaluation/gpu and, where a local model "
        "answers or judges, instructions/gpu. null = everything in the flow's own process.",
    )
    stop: StopRule | None = Field(None, description="Ends a training stage that does worse than earlier ones; null = every stage goes to its end.")

    def open_store(self) -> Store:
        return Store(self.store)

    def local(self, artifact: Artifact) -> Path:
        return self.open_store().local(artifact)

    def locate(self, source: Made | Files, folder: str = "") -> Path:
        """Where an input lies on this machine, or `folder` in it: an artifact's local copy, or the files from outside themselves."""
        return (Path(source.path) if isinstance(source, Files) else self.local(source.artifact)) / folder


class Made(BaseModel):
    """A stage's outcome: its artifact, and what the closing table and the next stage want to know of it."""

    model_config = ConfigDict(frozen=True)

    artifact: Artifact
    reused: bool = Field(description="Whether it was there before this run.")
    seconds: float = Field(description="Of making it, whenever that was.")
    counts: dict[str, Any] = Field(description="Documents in, kept and dropped by reason, where it has documents.")
    metrics: dict[str, Any] = Field(description="The stage's figures.")


def make(
    run: Run,
    stage: str,
    version: int,
    settings: BaseModel,
    inputs: Mapping[str, Artifact | Made | Files],
    build: Callable[[Draft], Result],
) -> State[Any]:
    """Find or build a stage's artifact; the task's state is named Reused where it was found, and carries a Made.

    With `run.reuse_only` nothing is built: the state is named Missing and carries None.
    """
    store = run.open_store()
    given = {role: value.artifact if isinstance(value, Made) else value for role, value in inputs.items()}
    if run.reuse_only and (stage in run.force or not store.made(stage, version, settings, given)):
        return Completed(name="Missing", message=f"{stage} is not in {run.store}")
    artifact, reused = store.make(
        stage, version, settings, given, build, force=stage in run.force, holder=this_run.name(),
        waiting=lambda holder: show.say(f"{stage}: waiting for {holder}, which is making it"),
    )  # fmt: skip
    manifest = store.manifest(artifact)
    show.outcome(manifest, artifact, reused)
    return Completed(name="Reused" if reused else "Completed", data=_made(artifact, manifest, reused))


def _made(artifact: Artifact, manifest: Manifest, reused: bool) -> Made:
    return Made(
        artifact=artifact, reused=reused, seconds=manifest.seconds, counts=manifest.counts, metrics=manifest.metrics
    )
