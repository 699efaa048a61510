"""Vectors of texts from an OpenAI-compatible server of embeddings (vLLM, llama.cpp, text-embeddings-inference, ...)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.instructions.asking import answers
from data.instructions.http_client import HttpClient, Retry
from data.instructions.lines import excerpt
from data.instructions.settings import TopicSettings

_TEXTS = 64  # of one request

Vectors = NDArray[np.float32]


class HttpEmbedder(HttpClient):
    """Asks `POST {url}/embeddings`; the time limits, tries and concurrency are those of the settings' teacher."""

    def __init__(self, settings: TopicSettings, cache: Path | None, sleep: Callable[[float], None] = time.sleep) -> None:
        assert settings.embedder_url and settings.embedder_model
        super().__init__(
            "embedder", settings.embedder_url, "embeddings", settings.embedder_model, key_variable=settings.embedder_key_variable,
            timeout=settings.teacher_timeout_seconds, retries=settings.teacher_retries, concurrency=settings.teacher_concurrency,
            cache=cache, sleep=sleep,
        )  # fmt: skip
        self._concurrency = settings.teacher_concurrency

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimensions) float32, each row of length 1.

        Raises:
            TeacherError: no answer, or none with a vector for every text.
            ValueError: the server's vectors are not all of one length.
        """
        batches = [list(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS)]
        parts = list(answers(self._embed, batches, self._concurrency))
        if len({part.shape[1] for part in parts}) > 1:
            raise ValueError(f"{self!r} answers with vectors of different lengths")
        vectors = np.concatenate(parts)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def _embed(self, texts: list[str]) -> Vectors:
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        return self.ask(body, lambda text: _read(text, len(texts)), lambda found: _matrix(found.get("vectors"), len(texts)))


def _read(text: str, count: int) -> dict[str, Any]:
    """The vectors in the order of the texts. Raises Retry where the answer holds none."""
    try:
        vectors = [row["embedding"] for row in sorted(json.loads(text)["data"], key=lambda row: int(row["index"]))]
        _matrix(vectors, count)
        return {"vectors": vectors}
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise Retry(f"the answer holds no {count} embeddings ({type(error).__name__}): {excerpt(text)!r}", misled=True) from None


def _matrix(rows: Any, count: int) -> Vectors:
    """Raises ValueError where the rows are not `count` vectors of finite numbers, all of one length."""
    try:
        matrix = np.asarray(rows, dtype=np.float32)
    except TypeError as error:
        raise ValueError(f"not {count} vectors of numbers: {error}") from None
    if matrix.ndim != 2 or len(matrix) != count or not matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"not {count} vectors of numbers")
    return matrix
