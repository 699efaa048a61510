"""One training job: `deepspeed --module rlhf_core.train JOB.json`, or `python -m rlhf_core.train JOB.json`.

Reads `rlhf_core.settings.Job`; leaves model/, metrics.jsonl and summary.json in its `output`. Exit status 0; 2 where
the job or its inputs cannot be used; 1 where training failed. The last line on stderr says why.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rlhf_core.job import owner
from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.job.failures import check_machine, explained
from rlhf_core.settings import AnyStage, EvaluationSettings, Job

Read = TypeVar("Read", bound=BaseModel)  # what kind of job a job file holds


def main() -> int:
    status = guarded(train, read_job(Job))
    if "torch" in sys.modules:
        from rlhf_core import engine

        engine.stop()
    return status


def read_job(kind: type[Read]) -> Read:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("job", type=Path, help="a JSON file of rlhf_core.settings.Job")
    parser.add_argument("--local_rank", help="given by the deepspeed launcher; the environment says the same")
    path = parser.parse_args().job
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = f"cannot read {path}: {error}"
    except ValidationError as error:
        problem = f"{path}: " + "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        )
    print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(2)


def guarded(work: Callable[[Read], None], job: Read) -> int:
    """Run `work(job)`; expected failures become one line on stderr and an exit status."""
    owner.watch()
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)  # where it stands: asked by the owner of a job that is silent
    try:
        work(job)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as end:  # a reward function's, say: a status of 0 would pass for a job that is done
        print(f"error: code that the job calls ended it: sys.exit({end.code!r})", file=sys.stderr)
        return 1
    return 0


def train(job: Job) -> None:
    if isinstance(job.stage, EvaluationSettings):
        raise BadInput("this job is an evaluation: run it with python -m rlhf_core.evaluate")
    from rlhf_core import engine, loop
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.models.networks import quiet_libraries

    ranks = engine.start(job.stage.launch)
    check_machine(job.stage, has_card=ranks.device.type == "cuda")
    quiet_libraries()
    inputs = Inputs(job.inputs, Path(job.work))
    learned = [*job.stage.datasets(), *(role for role in job.inputs if role.startswith("source:"))]
    with explained(job.stage, [Path(job.output), Path(job.work)]):
        data = ranks.same(inputs.digest(learned))
        stage = build(job.stage, inputs, ranks)
        if ranks.same(inputs.digest(learned)) != data:
            raise BadInput(f"the data changed while they were read ({', '.join(job.inputs[role] for role in learned)}): start the job again")
        loop.run(job, job.stage, stage, ranks, data)


_STAGES = {
    "pretrain": "pretrain:Pretrain",
    "sft": "sft:Sft",
    "reward": "reward:Reward",
    "ppo": "ppo:Ppo",
    "rloo": "group:Rloo",
    "grpo": "group:Grpo",
    "raft": "raft:Raft",
    "best_of_n": "raft:BestOfN",
    "dpo": "dpo:Dpo",
}


def build(stage: AnyStage, inputs: Any, ranks: Any) -> Any:
    """The stage of its kind; only its own module is imported."""
    module, _, name = _STAGES[stage.kind].partition(":")
    return getattr(importlib.import_module(f"rlhf_core.stages.{module}"), name)(stage, inputs, ranks)


if __name__ == "__main__":
    sys.exit(main())
