"""Evaluation of trained models: `python -m rlhf_core.evaluate JOB.json`.

What it leaves in the job's `output`: rlhf_core/evaluation/job.py. Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import sys

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import EvaluationSettings, Job
from rlhf_core.train import guarded, read_job


def main() -> int:
    return guarded(evaluate, read_job(Job))


def evaluate(job: Job) -> None:
    if not isinstance(job.stage, EvaluationSettings):
        raise BadInput("this job trains: run it with python -m rlhf_core.train")
    from rlhf_core.evaluation.job import Evaluation
    from rlhf_core.models.networks import quiet_libraries, take_device

    quiet_libraries()
    Evaluation(job, job.stage, take_device(job.stage.launch.threads)).run()


if __name__ == "__main__":
    sys.exit(main())
