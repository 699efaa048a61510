"""Answers from a vLLM server (GPUs; extra `vllm`), over its OpenAI-compatible interface.

The server is started by the job, or given by its URL. After every update rank 0 writes the policy into the folder that the
server serves, and tells it to read its weights again. Prompts go out and answers come back as token ids, so nothing is
tokenized twice. The log-probabilities of a rollout are zeros here: the server computes in another precision and with other
kernels, so the policy that is trained computes them itself (`rlhf_core.stages.on_policy`).

`/collective_rpc` and `/reset_prefix_cache` exist in vLLM's development mode alone (VLLM_SERVER_DEV_MODE=1) and are not
guarded by its API key: such a server belongs on loopback or in a closed network.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from torch import Tensor

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.engine import Ranks
from rlhf_core.generation.rollout import Rollout, from_answers, stop_ids
from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.job.owner import end_with_parent
from rlhf_core.settings.alignment import VllmServer

_TRIES = 3  # of a request that the server refused as busy (5xx)
_LOG_LINES = 12


class VllmRollout:
    """A sampler (`rlhf_core.generation.sampler.Sampler`) on a server. All ranks call every method together."""

    def __init__(
        self, settings: VllmServer, start: str, write: Callable[[Path], None], chat: Chat, temperature: float, ranks: Ranks
    ) -> None:
        """`start`: the model that training begins with; `write(folder)` stores the policy as a Hugging Face folder
        (called on every rank, rank 0 writes)."""
        self.settings, self.write, self.chat, self.temperature, self.ranks = settings, write, chat, temperature, ranks
        self.stops = stop_ids(chat)
        self._server: _OwnServer | None = None
        if settings.url is None and importlib.util.find_spec("vllm") is None:
            raise BadInput("vllm: a server of the job's own needs the extra: pip install 'crawl2chat[vllm]'; or give vllm.url")
        self.folder = Path(ranks.from_main(_folder(settings, start) if ranks.is_main else ""))
        self.url = (settings.url or "").rstrip("/").removesuffix("/v1")
        self.client = httpx.Client(
            timeout=settings.timeout_seconds, trust_env=False, limits=httpx.Limits(max_connections=settings.requests)
        )
        self.model = ""

    def refresh(self) -> None:
        """Hand the policy's weights to the server, which is started (or looked at) before the first time."""
        self.write(self.folder)
        self._on_main(self._hand_over)

    def answers(self, prompts: list[list[int]], limit: int, uniforms: Tensor) -> Rollout:
        """uniforms (B, T): a row's first number is its seed, so that its answer is the same on any number of ranks."""
        seeds = (uniforms[:, 0] * 2**31).long().tolist()
        failure, answers = "", []
        limits = [limit] * len(prompts)
        with ThreadPoolExecutor(min(self.settings.requests, len(prompts))) as pool:
            try:
                answers = list(pool.map(self._answer, prompts, seeds, limits))
            except (BadInput, TrainingFailed) as error:
                failure = str(error)
                pool.shutdown(cancel_futures=True)
        self._stop_together(failure)
        return from_answers(prompts, answers, limit, self.chat, self.ranks.device)

    # Rank 0 and the server

    def _hand_over(self) -> None:
        if not self.model:
            self._meet()
            if self._server:
                return  # it has just read the folder
        self._post("/collective_rpc", {"method": "reload_weights"})
        self._post("/reset_prefix_cache", {})

    def _meet(self) -> None:
        if self.settings.url is None:
            self._server = _OwnServer(self.settings, self.folder)
            self.url = self._server.url
            self._server.wait(self.client)
        card = self._models()[0]
        served = Path(str(card.get("root") or ""))
        if self.settings.url is not None and served.resolve() != self.folder.resolve():
            raise BadInput(
                f"vllm: the server at {self.url} serves {served}, but the weights are handed over in {self.folder}; start it "
                f"with VLLM_SERVER_DEV_MODE=1 vllm serve {self.folder} (a copy of the starting model lies there)"
            )
        self.model = str(card["id"])

    def _models(self) -> list[dict[str, Any]]:
        try:
            reply = self.client.get(f"{self.url}/v1/models")
            models: list[dict[str, Any]] = reply.raise_for_status().json()["data"]
            assert models
            return models
        except (httpx.HTTPError, ValueError, KeyError, AssertionError, TypeError) as error:
            raise BadInput(f"vllm: no vLLM server answers at {self.url}: {error!r}{self._why()}") from None

    def _on_main(self, work: Callable[[], None]) -> None:
        """Run on rank 0; what it found out, or how it failed, is known to all."""
        failure = ""
        if self.ranks.is_main:
            try:
                work()
            except (BadInput, TrainingFailed) as error:
                failure = str(error)
        self._stop_together(failure)
        self.url, self.model = self.ranks.from_main((self.url, self.model))

    def _stop_together(self, failure: str) -> None:
        """A rank that stopped alone would leave the others waiting."""
        failures = [found for found in self.ranks.gather(failure) if found]
        if failures:
            raise TrainingFailed(failures[0])

    # Requests

    def _answer(self, prompt: list[int], seed: int, limit: int) -> list[int]:
        """The answer's token ids, the token that ended it included."""
        content = self._post("/v1/completions", {
            "model": self.model, "prompt": prompt, "max_tokens": limit, "temperature": self.temperature, "seed": seed,
            # all the server's own defaults, or those of the model's generation_config.json, would sample another policy
            "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "n": 1, "stop_token_ids": self.stops, "skip_special_tokens": False,
            "return_token_ids": True,
        }).json()  # fmt: skip
        try:
            ids = content["choices"][0]["token_ids"]
            assert isinstance(ids, list)
        except (KeyError, IndexError, TypeError, AssertionError):
            raise TrainingFailed(f"vllm: the server at {self.url} returns no token_ids; it needs vLLM 0.10.2 or later") from None
        if not 0 < len(ids) <= limit or not all(isinstance(i, int) and 0 <= i < self.chat.vocab_size for i in ids):
            raise TrainingFailed(
                f"vllm: the server at {self.url} returned {len(ids)} tokens ({ids[:8]}...) where 1 to {limit} were asked of a "
                f"vocabulary of {self.chat.vocab_size}: does it serve this model?"
            )
        return ids

    def _post(self, path: str, content: dict[str, Any]) -> httpx.Response:
        problem = ""
        for number in range(_TRIES):
            if number:
                time.sleep(2.0**number * 0.25)
            try:
                reply = self.client.post(f"{self.url}{path}", json=content)
            except httpx.TimeoutException:
                problem = f"no answer within vllm.timeout_seconds = {self.settings.timeout_seconds:g}"
                break
            except httpx.HTTPError as error:  # gone: a server that comes back may have other weights
                problem = repr(error)
                break
            if reply.status_code < 400:
                return reply
            problem = f"status {reply.status_code}: {reply.text[:300]}"
            if reply.status_code < 500:
                break
        raise TrainingFailed(self._lost(path, problem))

    def _lost(self, path: str, problem: str) -> str:
        hint = " (is it started with VLLM_SERVER_DEV_MODE=1?)" if "404" in problem and path != "/v1/completions" else ""
        return (
            f"vllm: {path} at {self.url} failed: {problem}{hint}; the last checkpoint is kept: start the run again once the "
            f"server serves{self._why()}"
        )

    def _why(self) -> str:
        return f"\n{self._server.last_lines()}" if self._server else ""


class _OwnServer:
    """`vllm serve` on loopback, for as long as this object or this process lives."""

    def __init__(self, settings: VllmServer, folder: Path) -> None:
        self.settings, self.log = settings, folder.with_suffix(".log")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--host", "127.0.0.1",
            "--port", str(port), "--dtype", settings.dtype, "--tensor-parallel-size", str(settings.tensor_parallel),
            "--gpu-memory-utilization", str(settings.gpu_memory_share), "--generation-config", "vllm",
        ]  # fmt: skip
        ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
        environment = {name: value for name, value in os.environ.items() if name not in ranks}
        environment |= {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        if settings.devices:
            environment["CUDA_VISIBLE_DEVICES"] = settings.devices
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment,
                preexec_fn=end_with_parent,
            )  # fmt: skip
        weakref.finalize(self, _end, self.process)

    def wait(self, client: httpx.Client) -> None:
        deadline = time.monotonic() + self.settings.start_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BadInput(f"vllm: the server ended with exit status {self.process.returncode}:\n{self.last_lines()}")
            try:
                if client.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise BadInput(f"vllm: the server did not start within {self.settings.start_seconds:g} s:\n{self.last_lines()}")

    def last_lines(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """vLLM's own workers end with it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _folder(settings: VllmServer, start: str) -> str:
    """Where the weights are handed over: the one named, or a temporary one that is gone with this process."""
    if settings.folder is None:
        made = tempfile.mkdtemp(prefix="crawl2chat-vllm-")
        weakref.finalize(_folder, shutil.rmtree, made, ignore_errors=True)
        return str(Path(made) / "policy")
    if Path(settings.folder).resolve() == Path(start).resolve():
        raise BadInput(f"vllm.folder: {settings.folder} is the starting model itself, which would be overwritten; name a copy")
    return settings.folder
