"""Tasks of the training half: the tokenizer, one DeepSpeed job per training stage, the evaluation job."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Cancelled

from rlhf_core.settings import EvaluationSettings, Job, TokenizerSettings, TrainingStage
from tasks import mixtures, names, show
from tasks.jobs import JobFailed, job_command, prepare_jobs
from tasks.reporting.figures import json_lines, thinned
from tasks.stage import Made, Run, make
from tasks.stage_job import output_of, run_in_draft
from tasks.stopping import STOPPED_EARLY, Poor, StopRule
from tasks.store.artifacts import Draft, Files, Result

TOKENIZER_VERSION = 2
TRAINING_VERSION = 7
EVALUATION_VERSION = 6


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
    role without an artifact, a hub name. One that `run.stop` ends is StoppedEarly, which is no failure to be shown with a traceback.
    """

    def build(draft: Draft) -> Result:
        located = _locate(run, artifacts, folders)
        return _launch(stage, stage.name, located, "rlhf_core.train", draft, run.stop, lambda: _check_unchanged(artifacts))

    try:
        return make(run, stage.name, TRAINING_VERSION, stage, artifacts, build)
    except Poor as poor:
        return Cancelled(name=STOPPED_EARLY, message=str(poor))


@task(task_run_name="evaluation", cache_policy=NO_CACHE)
def evaluate(
    run: Run, settings: EvaluationSettings, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]
) -> State[Made]:
    def build(draft: Draft) -> Result:
        inputs = _locate(run, artifacts, folders)
        return _launch(settings, "evaluation", inputs, "rlhf_core.evaluate", draft)

    return make(run, "evaluation", EVALUATION_VERSION, settings, artifacts, build)


def _locate(run: Run, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]) -> dict[str, str]:
    """Role -> local path (or hub name)."""
    located = dict(folders)
    for role, source in artifacts.items():
        located[role] = str(run.locate(source, folders.get(role, "")).resolve())
    return located


def _check_unchanged(artifacts: Mapping[str, Made | Files]) -> None:
    """JobFailed where files from outside are no longer what the stage's fingerprint was made of: it would name what was not learned."""
    for role, source in artifacts.items():
        if isinstance(source, Files) and Files.of(source.path) != source:
            raise JobFailed(f"input {role}: {source.path} changed while the job was started; run again, and it is read as it is now")


def _launch(
    settings: TrainingStage | EvaluationSettings, name: str, inputs: dict[str, str], module: str, draft: Draft,
    stop: StopRule | None = None, at_first_step: Callable[[], None] = lambda: None,
) -> Result:
    """Run the job; its output becomes the draft's, its curves are shown. `at_first_step` is called when all inputs have been read."""
    job = Job(stage=settings, inputs=inputs, output=str(output_of(draft)), work=str(draft.work))
    launch = settings.launch
    ranks = launch.ranks if isinstance(settings, TrainingStage) else 1  # evaluation is one process
    progress = show.Progress(name)

    to_do = [at_first_step]

    def report(line: dict[str, Any]) -> None:
        while to_do:
            to_do.pop()()
        progress(line)
        if stop is not None:
            stop.check(name, line)

    output = run_in_draft(draft, job, lambda file: job_command(module, file, ranks, launch.hostfile, launch.launcher), launch, ranks, report)
    os.rename(output, draft.out)  # an empty folder may be replaced
    lines = json_lines(draft.out / "metrics.jsonl")
    figures = [key for key, value in lines[-1].items() if key not in show.NO_FIGURES and isinstance(value, int | float)][:6] if lines else []
    show.curves(name, thinned(lines, figures), figures)
    summary: dict[str, Any] = json.loads((draft.out / "summary.json").read_text(encoding="utf-8"))
    if "data" in inputs:
        mixtures.account(name, Path(inputs["data"]), summary, draft.out)
    return Result(counts={}, metrics=summary)
