"""What a model of the training half measures or answers in the middle of the data half: one job each, one process."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from pydantic import BaseModel

from data.document import Counts
from data.instructions.sampling import write_prompts
from data.instructions.settings import SampleSettings
from rlhf_core.settings import (
    AnswerSamplingJob,
    AnswerSamplingSettings,
    AnswerScoringJob,
    AnswerScoringSettings,
    Launch,
    ScoringJob,
    ScoringSettings,
)
from tasks import show
from tasks.jobs import plain_command
from tasks.mapping import link, result_of
from tasks.names import over_shards
from tasks.stage import Made, Run, make
from tasks.stage_job import output_of, run_in_draft
from tasks.store.artifacts import Draft, Files, Result

DOCUMENTS_VERSION = 2
SAMPLING_VERSION = 2
ANSWERS_VERSION = 3


@task(task_run_name=over_shards("scoring"), cache_policy=NO_CACHE)
def score_documents(run: Run, documents: Made, settings: ScoringSettings) -> State[Made]:
    """Label: bits per character of each document by `settings.model`, which is not None."""

    def build(draft: Draft) -> Result:
        job = ScoringJob(
            settings=settings, model=_model(settings), documents=str(run.local(documents.artifact) / "documents"), output=str(output_of(draft))
        )
        _run("scoring", "rlhf_core.perplexity", job, settings.launch, draft)
        rows = documents.counts["kept"]
        return result_of(Counts(rows, rows))

    return make(run, "scoring", DOCUMENTS_VERSION, settings, {"documents": documents}, build)


class _Sampling(BaseModel):
    """What decides on the answers of a job: how many and how long, and who writes them."""

    sampled: SampleSettings
    by: AnswerSamplingSettings


@task(task_run_name="answers", cache_policy=NO_CACHE)
def write_answers(run: Run, prompts: str, sampled: SampleSettings, settings: AnswerSamplingSettings) -> State[Made]:
    """The answers that stage `sampled` wants, by a local model; `settings.model` is not None."""

    def build(draft: Draft) -> Result:
        asked = draft.work / "prompts.jsonl"
        write_prompts(Path(prompts), sampled, asked)
        job = AnswerSamplingJob(
            settings=settings, model=_model(settings), prompts=str(asked), output=str(output_of(draft)), responses=sampled.responses,
            max_tokens=sampled.max_tokens, temperature=sampled.temperature,
        )  # fmt: skip
        _run("answers", "rlhf_core.sample", job, settings.launch, draft)
        return _summarised(draft)

    return make(run, "answers", SAMPLING_VERSION, _Sampling(sampled=sampled, by=settings), {"prompts": Files.of(prompts)}, build)


@task(task_run_name="answer scores", cache_policy=NO_CACHE)
def score_answers(run: Run, sampled: Made, settings: AnswerScoringSettings) -> State[Made]:
    """A reward model's scores of sampled responses; `settings.model` is not None."""

    def build(draft: Draft) -> Result:
        samples = run.local(sampled.artifact) / "samples.jsonl"
        job = AnswerScoringJob(settings=settings, model=_model(settings), samples=str(samples), output=str(output_of(draft)))
        _run("answer_scores", "rlhf_core.answer_scores", job, settings.launch, draft)
        return _summarised(draft)

    return make(run, "answer_scores", ANSWERS_VERSION, settings, {"sampled": sampled}, build)


def _model(settings: ScoringSettings | AnswerScoringSettings | AnswerSamplingSettings) -> str:
    return str(Path(settings.model or "").resolve())


def _summarised(draft: Draft) -> Result:
    return Result(counts={}, metrics=json.loads((draft.out / "summary.json").read_text(encoding="utf-8")))


def _run(stage: str, module: str, job: BaseModel, launch: Launch, draft: Draft) -> None:
    """Run the job of one process to its end; what it left becomes the artifact."""
    link(run_in_draft(draft, job, partial(plain_command, module), launch, 1, show.Progress(stage)), draft.out)
