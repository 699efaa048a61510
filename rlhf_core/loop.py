"""The one training loop. A stage brings its engines, what a step does and what it measures; all else is here:
the schedule, resuming, metrics, checkpoints, the check for NaN, saving.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel

from rlhf_core.engine import Engine, Ranks
from rlhf_core.job.checkpoints import Checkpoints
from rlhf_core.job.errors import TrainingFailed
from rlhf_core.job.recorder import Recorder
from rlhf_core.schedule import learning_rate_share
from rlhf_core.settings import Job, TrainingStage


class Stage(Protocol):
    """What a kind of training adds to the loop. Every method is called on all ranks."""

    steps: int

    @property
    def engines(self) -> dict[str, Engine]: ...

    def begin(self, state: dict[str, Any]) -> None:
        """Before the first step of this attempt; `state` is what `state()` returned at the checkpoint, or empty."""

    def step(self, step: int, rate_share: float) -> dict[str, float]:
        """One optimizer step (PPO: one iteration) at this share of the learning rate; returns figures, the same on
        all ranks, which hold a `loss`."""

    def evaluate(self) -> dict[str, float]:
        """Held-out figures, the same on all ranks."""

    def samples(self) -> list[dict[str, Any]]:
        """Lines for samples.jsonl about the last step (rank 0's are written)."""

    def state(self) -> dict[str, Any]:
        """JSON state beyond the engines."""

    def save(self, folder: Path) -> None:
        """Write the Hugging Face folder (rank 0 writes)."""

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        """Final figures under flat names, from the last figures of step and evaluation."""


def run(job: Job, settings: TrainingStage, stage: Stage, ranks: Ranks, data: str = "") -> None:
    """Train `stage` to its end, from its last checkpoint where there is one. `data` tells what it learns from from other data."""
    recorder = Recorder(Path(job.output), ranks.is_main, settings.tensorboard)
    checkpoints = Checkpoints(Path(job.work), job_identity(settings, ranks, data), ranks)

    def write(folder: Path) -> None:
        for name, engine in stage.engines.items():
            engine.save(folder / name)

    def read(folder: Path) -> None:
        for name, engine in stage.engines.items():
            engine.load(folder / name)

    done, state, checkpoint = checkpoints.resume(read)
    recorder.begin(checkpoint, float(state.get("seconds", 0.0)))
    if checkpoint and ranks.is_main:
        print(f"resumed after step {done} of {stage.steps}", flush=True)
    torch.manual_seed(settings.seed + done)
    stage.begin(state.get("stage", {}))
    figures: dict[str, float] = dict(state.get("figures", {}))
    for step in range(done + 1, stage.steps + 1):
        line = stage.step(step, learning_rate_share(step, stage.steps, settings.optimizer))
        if step % settings.eval_steps == 0 or step == stage.steps:
            line |= stage.evaluate()
        check_finite(line, step)
        figures |= line
        recorder.write(step, stage.steps, line)
        recorder.write_samples(stage.samples())
        if step % settings.checkpoint_steps == 0:
            whole = {"seconds": recorder.seconds, "stage": stage.state(), "figures": figures}
            checkpoints.save(step, write, whole, recorder.files)
    stage.save(Path(job.output) / "model")
    recorder.write_summary(
        {"steps": stage.steps, "seconds": round(recorder.seconds, 3), **stage.summary(figures)}
    )
    ranks.barrier()


def check_finite(figures: dict[str, float], step: int) -> None:
    """Figures are the same on all ranks, so all of them stop here together."""
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    if broken:
        named = ", ".join(f"{name} is {figures[name]}" for name in broken)
        raise TrainingFailed(
            f"step {step}: {named}; the last checkpoint is kept. A lower learning_rate, a longer warmup_share or a "
            "smaller clip_grad_norm may help"
        )


def job_identity(settings: TrainingStage, ranks: Ranks, data: str) -> str:
    """What a checkpoint must agree with to be resumed: every setting that bears on the result, ranks and ZeRO stage, and the data."""
    content = settings.model_dump(mode="json", exclude=_elsewhere(settings))
    launch = settings.launch
    content |= {"world": ranks.world, "zero": launch.zero_stage, "micro": launch.micro_batch_size, "data": data}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _elsewhere(settings: BaseModel) -> dict[str, Any]:
    """The fields marked WHERE, at any depth, as pydantic's `exclude` takes them."""
    found: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        extra, value = field.json_schema_extra, getattr(settings, name)
        if isinstance(extra, dict) and extra.get("fingerprint") is False:
            found[name] = True
        elif isinstance(value, BaseModel):
            found[name] = _elsewhere(value)
    return found
