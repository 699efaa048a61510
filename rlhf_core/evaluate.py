"""Evaluation of trained models: `python -m rlhf_core.evaluate JOB.json`.

Leaves evaluation.json and samples.jsonl in the job's `output`. Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import sys

from rlhf_core.errors import BadInput
from rlhf_core.settings import EvaluationSettings, Job
from rlhf_core.train import guarded, read_job


def main() -> int:
    return guarded(evaluate, read_job(Job))


def evaluate(job: Job) -> None:
    if not isinstance(job.stage, EvaluationSettings):
        raise BadInput("this job trains: run it with python -m rlhf_core.train")
    from rlhf_core.models import quiet_libraries, take_device
    from rlhf_core.stages import evaluate as stage

    quiet_libraries()
    stage.run(job, job.stage, take_device(job.stage.launch.threads))


if __name__ == "__main__":
    sys.exit(main())
