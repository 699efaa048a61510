"""The teacher that settings name; a local model served on loopback and gone when the stage is."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from data.instructions.http_teacher import HttpTeacher
from data.instructions.sampling import sample
from data.instructions.self_instruct import run
from data.instructions.settings import JudgeSettings, SampleSettings, SelfInstructSettings
from data.instructions.teacher import Prompt, RecordedTeacher
from tasks import serving
from tasks.serving import ServingError, served
from tasks.teachers import teacher_of

SEEDS = Path(__file__).parents[2] / "data" / "samples" / "seed_tasks.jsonl"


def test_each_kind_of_teacher(tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"text": "hello"}\n')
    with teacher_of(JudgeSettings(completions=str(tmp_path / "said.jsonl")), tmp_path) as teacher:
        assert isinstance(teacher, RecordedTeacher) and teacher.complete(Prompt("x", "en", 0)).text == "hello"
    with teacher_of(SelfInstructSettings(teacher_url="http://localhost:1/v1", teacher_model="m", target=1), tmp_path, tmp_path / "bundled") as teacher:
        assert isinstance(teacher, HttpTeacher) and not teacher._client.is_closed
    assert teacher._client.is_closed
    with pytest.raises(ValueError, match="no teacher: give teacher_url"), teacher_of(JudgeSettings(), tmp_path):
        pass


def test_what_cannot_be_served_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ServingError, match=r"is no model folder: it holds no config\.json"), served(str(tmp_path), tmp_path / "log"):
        pass
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServingError, match=r"pip install 'crawl2chat\[serve\]'"), served(str(tmp_path), tmp_path / "log"):
        pass


def test_a_server_that_dies_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(serving.sys, "executable", "/bin/false")
    with pytest.raises(ServingError, match="ended with exit status 1"), served(str(tmp_path), tmp_path / "log"):
        pass


def test_no_proxy_stands_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(serving, "START_SECONDS", 5)
    with HTTPServer(("127.0.0.1", 0), Healthy) as server, subprocess.Popen(["sleep", "60"]) as process:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            serving._wait(process, server.server_address[1], "m", tmp_path / "log")
        finally:
            process.kill()
            server.shutdown()


# ---- a real server ----


def byte_tokenizer() -> Any:
    """A token a byte, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(["hello"], trainers.BpeTrainer(vocab_size=258, special_tokens=["<pad>", "<end>"], initial_alphabet=letters, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    return tokenizer


def small_llama(tokenizer: Any) -> Any:
    """One layer of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, eos_token_id=1, pad_token_id=0, **sizes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of one layer that says nonsense."""
    folder = str(tmp_path_factory.mktemp("model"))
    tokenizer = byte_tokenizer()
    small_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_transformers_serve_teaches_and_answers(tmp_path: Path, model: str) -> None:
    """Self-instruct and sampling over a real OpenAI-compatible server; nonsense is counted, not believed."""
    pytest.importorskip("openai", reason="the extra `serve` is not installed")
    settings = SelfInstructSettings(teacher_local=model, max_calls=2, max_tokens=24, teacher_timeout_seconds=100, languages=["en"])
    with teacher_of(settings, tmp_path / "teacher") as teacher:
        with pytest.raises(ValueError, match=r"nothing that the teacher wrote in 2 calls was accepted .* 2 of 2 answers were cut off"):
            run(SEEDS, teacher, settings, tmp_path / "out", tmp_path / "work")
        usages = [json.loads(line)["completion"]["usage"] for line in (tmp_path / "work" / "journal.jsonl").read_text("utf-8").splitlines()]
        url = str(teacher.shown_url).removesuffix("/v1/chat/completions")
        assert httpx.get(url + "/health").status_code == 200
    assert 2 <= sum(usage["completion_tokens"] for usage in usages) <= 48
    assert sum(usage["prompt_tokens"] for usage in usages) > 500
    with pytest.raises(httpx.HTTPError):
        httpx.get(url + "/health", timeout=1)
    assert not [process for process in psutil.Process().children(recursive=True) if "serve" in " ".join(process.cmdline())]

    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Which river?"}\n')
    sampling = SampleSettings(responses=2, teacher_local=model, max_tokens=8)
    with teacher_of(sampling, tmp_path / "p") as policy:
        texts = [policy.complete(Prompt("Which river?", "en", call, 8, 1.0)) for call in range(3)]
        # cut off at 8 tokens: no response, and counted as such
        with pytest.raises(ValueError, match="too_few_responses"):
            sample(tmp_path / "prompts.jsonl", policy, sampling, tmp_path / "sampled", tmp_path / "w")
    assert len({completion.text for completion in texts}) > 1  # it samples, though the model's own settings do not say so
