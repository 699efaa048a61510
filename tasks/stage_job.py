"""The job of a stage: what it is given and what it fills lie in the draft's work folder, so that a killed attempt is continued."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rlhf_core.settings import Launch
from tasks.jobs import Limits, environment, run_job
from tasks.launching import Forked
from tasks.store.artifacts import Draft


def output_of(draft: Draft) -> Path:
    """The folder that the job fills."""
    return draft.work / "output"


def run_in_draft(
    draft: Draft, job: BaseModel, command: Callable[[Path], list[str] | Forked], launch: Launch, ranks: int, on_metrics: Callable[[dict[str, Any]], None]
) -> Path:
    """Write the job's file, run the job to its end within the limits of `launch`, and return the folder that it filled.

    Args:
        job: what its file says; its output is `output_of(draft)`.
        command: from the file to what is started.
        ranks: processes that share the machine's threads.
        on_metrics: is told each new line of its metrics.

    Raises:
        JobFailed: as run_job does.
    """
    output, file = output_of(draft), draft.work / "job.json"
    output.mkdir(exist_ok=True)
    file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    limits = Limits(total=launch.timeout_seconds, silence=launch.silence_seconds)
    run_job(command(file), output / "job.log", output / "metrics.jsonl", environment(ranks, launch.threads), limits, on_metrics)
    return output
