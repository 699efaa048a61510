"""A trained model's folder is served by `transformers serve` as it stands, and answers the OpenAI client as it answers here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlhf_core.dataset.records import Record, Turn
from rlhf_core.evaluation.candidate import load_candidate
from rlhf_core.job.inputs import Inputs
from tasks.serving import served
from tests.rlhf_core.toy import Chain

QUESTION = "What is the capital of Ald?"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_openai_client_gets_the_same_answer(chain: Chain, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai", reason="the extra `serve` is not installed")
    candidate = load_candidate(Inputs({"other:sft": str(chain.world / "sft")}), "other:sft", torch.device("cpu"))
    _, [wanted] = candidate.answer([Record("x", None, (Turn("user", QUESTION),))], 12)
    assert wanted is not None and wanted.finished
    messages = [{"role": "user", "content": QUESTION}]
    with served(str(chain.world / "sft" / "model"), tmp_path / "serve.log") as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", timeout=120)
        whole = client.chat.completions.create(model=server.model, messages=messages, max_tokens=12)
        assert whole.choices[0].message.content.strip() == wanted.text
        stream = client.chat.completions.create(model=server.model, messages=messages, max_tokens=12, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces).strip() == wanted.text and len(pieces) > 1
