"""Answers drawn from a model, several to a prompt: `python -m rlhf_core.sample JOB.json`.

Reads `rlhf_core.settings.AnswerSamplingJob`; leaves completions.jsonl, metrics.jsonl and summary.json in its `output`. A line
of completions.jsonl is an answer, prompt by prompt: {"text", "finish_reason", "usage"}, as a server would have said it;
`length` where it did not come to its end, `too_long` where the prompt leaves no room in the model's context. What an answer is
depends on its prompt's place and the seed alone, so a killed job goes on to the same bytes. Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.dataset.records import Record, iterate_records
from rlhf_core.job.errors import BadInput
from rlhf_core.job.lines import whole_lines
from rlhf_core.settings import AnswerSamplingJob
from rlhf_core.train import guarded, read_job

if TYPE_CHECKING:
    from rlhf_core.evaluation.candidate import Candidate

Line = dict[str, Any]


def main() -> int:
    return guarded(sample, read_job(AnswerSamplingJob))


def sample(job: AnswerSamplingJob) -> None:
    from rlhf_core.evaluation.candidate import load_candidate
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.models.networks import quiet_libraries, take_device

    quiet_libraries()
    settings, role = job.settings, "other:model"
    model = load_candidate(Inputs({role: job.model}), role, take_device(settings.launch.threads), settings.precision)
    if job.max_tokens >= model.context:
        raise BadInput(f"sampled.max_tokens: {job.max_tokens} tokens leave no room for a prompt in the model's {model.context} positions")
    _sample_file(model, job)


def _sample_file(model: Candidate, job: AnswerSamplingJob) -> None:
    prompts, output = Path(job.prompts), Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    steps = sum(1 for _ in iterate_records(prompts))
    at_once = max(1, job.settings.batch_size // job.responses)
    # Whole batches alone are kept: the same rows beside each other round alike.
    reasons = [line["finish_reason"] for line in whole_lines(output / "completions.jsonl", at_once * job.responses)]
    done = len(reasons) // job.responses
    records = islice(iterate_records(prompts), done, None)
    with (output / "completions.jsonl").open("a", encoding="utf-8") as file, (output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        while batch := list(islice(records, at_once)):
            found = answers(model, batch, done, job)
            file.writelines(map(_dumped, found))
            file.flush()
            reasons += [line["finish_reason"] for line in found]
            done += len(batch)
            metrics.write(_dumped({"step": done, "steps": steps}))
            metrics.flush()
    summary = {
        "prompts": done, "answers": len(reasons), "unfinished_answers": reasons.count("length"),
        "too_long_prompts": reasons.count("too_long") // job.responses,
    }  # fmt: skip
    (output / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def answers(model: Candidate, prompts: list[Record], first: int, job: AnswerSamplingJob) -> list[Line]:
    """`job.responses` lines a prompt, in order. The prompts are those of the file from number `first` on."""
    import torch

    from rlhf_core.generation.rollout import generate, noise

    ids = model.encode([prompt.prompt() for prompt in prompts])
    fitting = [place for place, tokens in enumerate(ids) if len(tokens) + job.max_tokens <= model.context]
    said: dict[int, list[Line]] = {}
    if fitting:
        asked = [ids[place] for place in fitting for _ in range(job.responses)]
        uniforms = torch.cat([noise(job.settings.seed, first + place, job.responses, job.max_tokens) for place in fitting])
        rollout = generate(model.policy.model, model.chat, asked, job.max_tokens, job.temperature, uniforms)
        rows = iter(zip(asked, rollout.responses(), rollout.finished.tolist(), strict=True))
        said = {place: [_line(model, *row) for row in islice(rows, job.responses)] for place in fitting}
    nothing = {"text": "", "finish_reason": "too_long", "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    return [line for place in range(len(prompts)) for line in said.get(place, [nothing] * job.responses)]


def _line(model: Candidate, prompt: list[int], tokens: list[int], finished: bool) -> Line:
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
    return {"text": model.chat.decode(tokens), "finish_reason": "stop" if finished else "length", "usage": usage}


def _dumped(line: Line) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
