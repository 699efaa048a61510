"""A teacher behind an OpenAI-compatible server: base URL, model, key from the environment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.instructions.http_client import HttpClient, Retry
from data.instructions.lines import excerpt
from data.instructions.settings import TeacherSettings
from data.instructions.teacher import Completion, Prompt, completion_from


class HttpTeacher(HttpClient):
    """Asks `POST {url}/chat/completions`.

    Args: as HttpClient; and
        extra: more fields of every request's body, for a server that needs them.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = "TEACHER_API_KEY",
        timeout: float = 120,
        retries: int = 5,
        concurrency: int = 4,
        cache: Path | None = None,
        extra: Mapping[str, Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(
            "teacher", url, "chat/completions", model, key_variable=key_variable, timeout=timeout, retries=retries,
            concurrency=concurrency, cache=cache, sleep=sleep,
        )  # fmt: skip
        self._extra = dict(extra or {})

    @classmethod
    def from_settings(cls, settings: TeacherSettings, cache: Path | None) -> HttpTeacher:
        if settings.teacher_url is None or not settings.teacher_model:
            raise ValueError("teacher_url and teacher_model are needed")
        return cls.at(settings.teacher_url, settings.teacher_model, settings, cache)

    @classmethod
    def at(
        cls, url: str, model: str, settings: TeacherSettings, cache: Path | None, extra: Mapping[str, Any] | None = None
    ) -> HttpTeacher:
        """A teacher at another place than the settings say, with their limits and key."""
        return cls(
            url, model, key_variable=settings.teacher_key_variable, timeout=settings.teacher_timeout_seconds,
            retries=settings.teacher_retries, concurrency=settings.teacher_concurrency, cache=cache, extra=extra,
        )  # fmt: skip

    def complete(self, prompt: Prompt) -> Completion:
        """Raises TeacherError: names URL and cause, and what can be done."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            **self._extra,
            "seed": prompt.call,  # two calls with one text are two requests, here and in the cache
        }
        return self.ask(body, _read, completion_from, prompt.call)


def _read(text: str) -> dict[str, Any]:
    """The first choice of a chat completion. Raises Retry where the answer is none."""
    try:
        answer = json.loads(text)
        choice = answer["choices"][0]
        content = choice["message"]["content"]
        if not isinstance(content, str):
            raise TypeError("content is no text")
        reason = "length" if choice.get("finish_reason") == "length" else "stop"
        return completion_from({"text": content, "finish_reason": reason, "usage": answer.get("usage")}).as_dict()
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Retry(f"the answer is no chat completion ({type(error).__name__}): {excerpt(text)!r}") from None
