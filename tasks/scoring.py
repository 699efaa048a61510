"""Documents scored by a causal language model: one job of the training half in the middle of the corpus half."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.document import Counts
from rlhf_core.settings import ScoringJob, ScoringSettings
from tasks import show
from tasks.artifacts import Draft, Result
from tasks.jobs import Limits, environment, plain_command, run_job
from tasks.mapping import link, result_of
from tasks.stage import Made, Run, make

VERSION = 1


@task(task_run_name="scoring", cache_policy=NO_CACHE)
def score_documents(run: Run, documents: Made, settings: ScoringSettings) -> State[Made]:
    """Label: bits per character of each document by `settings.model`, which is not None."""

    def build(draft: Draft) -> Result:
        output = draft.work / "output"
        output.mkdir(exist_ok=True)
        job = ScoringJob(
            settings=settings,
            model=str(Path(settings.model or "").resolve()),
            documents=str(run.local(documents.artifact) / "documents"),
            output=str(output),
        )
        job_file = draft.work / "job.json"
        job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
        limits = Limits(total=settings.launch.timeout_seconds, silence=settings.launch.silence_seconds)
        run_job(
            plain_command("rlhf_core.perplexity", job_file), output / "job.log", output / "metrics.jsonl",
            environment(1, settings.launch.threads), limits, show.Progress("scoring"),
        )  # fmt: skip
        link(output, draft.out)
        rows = documents.counts["kept"]
        return result_of(Counts(rows, rows))

    return make(run, "scoring", VERSION, settings, {"documents": documents}, build)
