"""The job that scores sampled answers by a reward model: same scores alone and together, and a killed one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from rlhf_core import answer_scores
from rlhf_core.answer_scores import score
from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.dataset.records import parse_record
from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.settings import AnswerScoringJob, AnswerScoringSettings
from tests.rlhf_core.toy import record, write_lines

RESPONSES = [["Orsk.", "Tarn, perhaps."], ["Velm. Glad to help!", "No.", "Ruk Ruk Ruk"], ["Haff."] * 2, ["Mira", "word " * 200]]
LINES = [record(n, [("user", f"Which city, for the {n + 1}th time?")], responses=texts) for n, texts in enumerate(RESPONSES)]


def model(world: Path, folder: Path, kind: Any = LlamaForSequenceClassification) -> Path:
    """A Llama of width 16 with random weights and 64 positions."""
    chat = load_chat(str(world / "tokenizer"))
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=chat.vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        max_position_embeddings=64, initializer_range=0.5, pad_token_id=chat.pad_id,
    )  # fmt: skip
    kind(config).save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    return folder


def job(model: Path, folder: Path, **settings: Any) -> AnswerScoringJob:
    write_lines(folder / "samples.jsonl", LINES)
    chosen = AnswerScoringSettings(model=str(model), **settings)
    return AnswerScoringJob(settings=chosen, model=str(model), samples=str(folder / "samples.jsonl"), output=str(folder / "out"))


def test_a_judge_that_says_no_number_is_refused(world: Path, tmp_path: Path) -> None:
    """Its answers would be ranked in any order."""
    folder = model(world, tmp_path / "model")
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    network.score.weight.data.fill_(float("nan"))
    network.save_pretrained(folder)
    with pytest.raises(TrainingFailed, match=r"the judge: \d+ of \d+ scores are not finite"):
        score(job(folder, tmp_path))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "scores.jsonl").read_text().splitlines()]


def by_hand(folder: Path, line: dict[str, Any], answer: str) -> float:
    """One answer alone, without padding: the head at its last token."""
    chat = load_chat(str(folder))
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = chat.prompts([parse_record(json.dumps(line)).prompt()])[0] + chat.answers([answer])[0]
    with torch.no_grad():
        hidden = network.model(torch.tensor([ids])).last_hidden_state[0, -1]
        return float(network.score(hidden))


def test_scores_by_hand_and_what_does_not_fit_has_none(world: Path, tmp_path: Path) -> None:
    folder = model(world, tmp_path / "model")
    score(job(folder, tmp_path))
    found = rows(tmp_path)
    assert [row["id"] for row in found] == [line["id"] for line in LINES]
    assert found[3]["scores"][1] is None
    for line, row in zip(LINES, found, strict=True):
        for answer, value in zip(line["responses"], row["scores"], strict=True):
            assert value is None or value == pytest.approx(by_hand(folder, line, answer), abs=1e-5)
    assert len({value for row in found for value in row["scores"]}) == 8  # all differ but the two copies
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"records": 4, "answers": 9, "too_long_answers": 1}


def test_a_killed_scoring_goes_on_and_scores_nothing_twice(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(world, tmp_path / "model")
    score(job(folder, tmp_path))
    whole, file = (tmp_path / "out" / "scores.jsonl").read_bytes(), tmp_path / "out" / "scores.jsonl"
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:9])  # killed while the third line was written
    seen: list[str] = []
    scores = answer_scores._scores

    def watched(scorer: Any, records: Any) -> Any:
        seen.extend(one.id for one in records)
        return scores(scorer, records)

    monkeypatch.setattr(answer_scores, "_scores", watched)
    score(job(folder, tmp_path))
    assert (seen, file.read_bytes()) == (["r2", "r3"], whole)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["answers"] == 9


def test_a_language_model_is_no_judge(world: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no reward model: its config\.json names no sequence classifier"):
        score(job(model(world, tmp_path / "model", LlamaForCausalLM), tmp_path))
