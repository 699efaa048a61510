"""The job that draws answers: what each is depends on its prompt alone, a killed one goes on, and what cannot be asked is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core import sample as job_module
from rlhf_core.evaluation.candidate import load_candidate
from rlhf_core.generation.rollout import generate, noise
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs
from rlhf_core.job.lines import whole_lines
from rlhf_core.sample import sample
from rlhf_core.settings import AnswerSamplingJob, AnswerSamplingSettings
from tests.rlhf_core.test_answer_scores import model as fresh
from tests.rlhf_core.toy import Chain, record, write_lines

LONG = "word " * 200
PROMPTS = [
    record(0, [("user", "What is the capital of Ald?")]),
    record(1, [("user", "Which city, for the second time?"), ("assistant", "Tarn."), ("user", "And of Bex?")], system="Be brief."),
    record(2, [("user", LONG)]),
    record(3, [("user", "哪里？")]),
    record(4, [("user", "Name the capital of Bex.")]),
]


def job(source: Path, folder: Path, **more: Any) -> AnswerSamplingJob:
    write_lines(folder / "prompts.jsonl", PROMPTS)
    given = {"responses": 3, "max_tokens": 12, "temperature": 1.3, **more}
    settings = AnswerSamplingSettings(model=str(source), seed=5, batch_size=given.pop("batch_size", 6))
    return AnswerSamplingJob(settings=settings, model=str(source), prompts=str(folder / "prompts.jsonl"), output=str(folder / "out"), **given)


def written(folder: Path) -> list[dict[str, Any]]:
    return whole_lines(folder / "out" / "completions.jsonl")


def test_every_prompt_is_answered_as_if_it_were_alone(chain: Chain, tmp_path: Path) -> None:
    """The policy itself, prompt by prompt, at the same temperature with the same numbers."""
    source = chain.world / "sft"
    sample(job(source, tmp_path))
    found = written(tmp_path)
    assert len(found) == 15
    candidate = load_candidate(Inputs({"other:sft": str(source)}), "other:sft", torch.device("cpu"))
    from rlhf_core.dataset.records import read_records

    for number, one in enumerate(read_records(tmp_path / "prompts.jsonl")):
        lines = found[3 * number : 3 * number + 3]
        if number == 2:
            assert lines == [{"text": "", "finish_reason": "too_long", "usage": {"prompt_tokens": 0, "completion_tokens": 0}}] * 3
            continue
        [ids] = candidate.encode([one])
        alone = generate(candidate.policy.model, candidate.chat, [ids] * 3, 12, 1.3, noise(5, number, 3, 12))
        assert [line["text"] for line in lines] == [candidate.chat.decode(tokens) for tokens in alone.responses()]
        assert [line["finish_reason"] for line in lines] == [("length", "stop")[done] for done in alone.finished.tolist()]
        assert [line["usage"] for line in lines] == [{"prompt_tokens": len(ids), "completion_tokens": n} for n in alone.lengths.tolist()]
    assert len({line["text"] for line in found}) > 5 and {line["finish_reason"] for line in found} >= {"stop", "too_long"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    unfinished = sum(line["finish_reason"] == "length" for line in found)
    assert summary == {"prompts": 5, "answers": 15, "unfinished_answers": unfinished, "too_long_prompts": 1}


def test_a_killed_job_goes_on_to_the_same_bytes(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, file = chain.world / "sft", tmp_path / "out" / "completions.jsonl"
    sample(job(source, tmp_path))
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:8]) + lines[8][:20])  # killed in the second batch of two prompts
    asked: list[int] = []
    answers = job_module.answers

    def watched(model: Any, prompts: Any, first: int, given: Any) -> Any:
        asked.append(first)
        return answers(model, prompts, first, given)

    monkeypatch.setattr(job_module, "answers", watched)
    sample(job(source, tmp_path))
    assert (asked, file.read_bytes()) == ([2, 4], whole)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["answers"] == 15


def test_what_cannot_answer_is_said(world: Path, chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a classifier: it writes no answers"):
        sample(job(fresh(world, tmp_path / "reward"), tmp_path))
    with pytest.raises(BadInput, match=r"sampled\.max_tokens: 4000 tokens leave no room for a prompt"):
        sample(job(chain.world / "sft", tmp_path, max_tokens=4000))
    with pytest.raises(BadInput, match="no such folder"):
        sample(job(tmp_path / "nothing", tmp_path))
