"""Evaluation of trained models: `python -m rlhf_core.evaluate JOB.json`.

Leaves evaluation.json and samples.jsonl in the job's `output`. Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import os
import sys

from rlhf_core.errors import BadInput
from rlhf_core.settings import EvaluationSettings, Job
from rlhf_core.train import guarded, read_job


def main() -> int:
    return guarded(evaluate, read_job(Job))


def evaluate(job: Job) -> None:
    if not isinstance(job.stage, EvaluationSettings):
        raise BadInput("this job trains: run it with python -m rlhf_core.train")
    import torch

    from rlhf_core.models import quiet_libraries
    from rlhf_core.stages import evaluate as stage

    quiet_libraries()
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(job.stage.launch.threads or len(os.sched_getaffinity(0)))
    stage.run(job, job.stage, torch.device("cuda" if cuda else "cpu"))


if __name__ == "__main__":
    sys.exit(main())
