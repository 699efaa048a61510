"""Tasks of the training half: the tokenizer, one DeepSpeed job per training stage, the evaluation job."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from rlhf_core.settings import EvaluationSettings, Job, Launch, TokenizerSettings, TrainingStage
from tasks import mixtures, names, show
from tasks.jobs import Limits, environment, job_command, prepare_jobs, run_job
from tasks.stage import Made, Run, make
from tasks.stopping import StopRule
from tasks.store.artifacts import Draft, Files, Result

TOKENIZER_VERSION = 1
TRAINING_VERSION = 2
EVALUATION_VERSION = 5


@task(task_run_name="tokenizer", cache_policy=NO_CACHE)
def train_tokenizer(run: Run, corpus: Made, settings: TokenizerSettings) -> State[Made]:
    def build(draft: Draft) -> Result:
        from rlhf_core.dataset import vocabulary

        prepare_jobs()  # training follows
        documents = run.local(corpus.artifact) / "documents"
        summary = vocabulary.train_tokenizer(sorted(documents.glob("part-*.parquet")), settings, draft.out / "tokenizer")
        return Result(counts={}, metrics=summary)

    inputs: dict[str, Made | Files] = {"corpus": corpus}
    if settings.extend and Path(settings.extend).is_dir():
        inputs["extend"] = Files.of(settings.extend)
    return make(run, "tokenizer", TOKENIZER_VERSION, settings, inputs, build)


@task(task_run_name=names.over_ranks(), cache_policy=NO_CACHE)
def train(run: Run, stage: TrainingStage, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]) -> State[Made]:
    """One training stage as one DeepSpeed job.

    `artifacts` maps a role to what it comes from; `folders` says where in that artifact the role's input lies, or, for a
    role without an artifact, a hub name.
    """

    def build(draft: Draft) -> Result:
        return _launch(stage, stage.name, stage.launch, _locate(run, artifacts, folders), "rlhf_core.train", draft, run.stop)

    return make(run, stage.name, TRAINING_VERSION, stage, artifacts, build)


@task(task_run_name="evaluation", cache_policy=NO_CACHE)
def evaluate(
    run: Run, settings: EvaluationSettings, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]
) -> State[Made]:
    def build(draft: Draft) -> Result:
        inputs = _locate(run, artifacts, folders)
        return _launch(settings, "evaluation", settings.launch, inputs, "rlhf_core.evaluate", draft)

    return make(run, "evaluation", EVALUATION_VERSION, settings, artifacts, build)


def _locate(run: Run, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]) -> dict[str, str]:
    """Role -> local path (or hub name)."""
    located = dict(folders)
    for role, source in artifacts.items():
        root = Path(source.path) if isinstance(source, Files) else run.local(source.artifact)
        located[role] = str((root / folders.get(role, "")).resolve())
    return located


def _launch(
    settings: TrainingStage | EvaluationSettings, name: str, launch: Launch, inputs: dict[str, str], module: str, draft: Draft,
    stop: StopRule | None = None,
) -> Result:
    """Run the job in the draft's work folder, so that a killed attempt is continued, metrics and all; then publish."""
    output = draft.work / "output"
    output.mkdir(exist_ok=True)
    job = Job(stage=settings, inputs=inputs, output=str(output), work=str(draft.work))
    job_file = draft.work / "job.json"
    job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    ranks = launch.ranks if isinstance(settings, TrainingStage) else 1  # evaluation is one process
    command = job_command(module, job_file, ranks, launch.hostfile, launch.launcher)
    progress = show.Progress(name)

    def report(line: dict[str, Any]) -> None:
        progress(line)
        if stop is not None:
            stop.check(name, line)

    run_job(
        command,
        output / "job.log",
        output / "metrics.jsonl",
        environment(launch.ranks, launch.threads),
        Limits(total=launch.timeout_seconds, silence=launch.silence_seconds),
        report,
    )
    os.rename(output, draft.out)  # an empty folder may be replaced
    lines = _lines(draft.out / "metrics.jsonl")
    show.curves(name, lines, [key for key in lines[-1] if key not in show.NO_FIGURES][:6] if lines else [])
    summary: dict[str, Any] = json.loads((draft.out / "summary.json").read_text(encoding="utf-8"))
    if "data" in inputs:
        mixtures.account(name, Path(inputs["data"]), summary, draft.out)
    return Result(counts={}, metrics=summary)


def _lines(metrics: Path) -> list[dict[str, Any]]:
    if not metrics.exists():
        return []
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines() if line.strip()]
