"""A teacher behind an OpenAI-compatible server: base URL, model, key from the environment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.instructions.http_client import HttpClient, Retry, TooLong
from data.instructions.lines import excerpt
from data.instructions.settings import TeacherSettings
from data.instructions.teacher import Completion, Prompt, completion_from


class HttpTeacher(HttpClient):
    """Asks `POST {url}/chat/completions`.

    Args: as HttpClient; and
        extra: more fields of every request's body, for a server that needs them; null leaves one out that it does not know.
    """

    limits = "limits (max_tokens, temperature); teacher_request changes its fields or leaves them out"

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
            retries=settings.teacher_retries, concurrency=settings.teacher_concurrency, cache=cache,
            extra={**(extra or {}), **settings.teacher_request},
        )  # fmt: skip

    def complete(self, prompt: Prompt) -> Completion:
        """Raises TeacherError: names URL and cause, and what can be done. What is too long for a model that answers else is `too_long`."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "seed": prompt.call,  # two calls with one text are two requests
            **self._extra,
        }
        try:
            return self.ask({name: value for name, value in body.items() if value is not None}, _read, completion_from, prompt.call)
        except TooLong:
            return Completion("", "too_long")


_CUT = {"length", "max_tokens", "max_output_tokens", "model_length"}  # how servers say that max_tokens ended it


def _read(text: str) -> dict[str, Any]:
    """The first choice of a chat completion, streamed or not. Raises Retry where the answer is none.

    Where there is no text because all tokens went into thoughts, or because the server will not say it, the completion is empty:
    asking again would give the same.
    """
    try:
        answer = _streamed(text) if text.lstrip().startswith(("data:", "event:", ":")) else json.loads(text)
        choice = answer["choices"][0]
        message, ended = choice["message"], str(choice.get("finish_reason") or "stop").lower()
        content = message.get("content")
        if isinstance(content, list):  # of parts
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        silent = ended != "stop" or any(message.get(name) for name in ("refusal", "reasoning_content", "reasoning"))
        if not isinstance(content, str) and not (content is None and silent):
            raise TypeError("content is no text")
        reason = "length" if ended in _CUT else "content_filter" if ended == "content_filter" else "stop"
        return completion_from({"text": content or "", "finish_reason": reason, "usage": answer.get("usage")}).as_dict()
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Retry(f"the answer is no chat completion ({type(error).__name__}): {excerpt(text)!r}", misled=True) from None


def _streamed(text: str) -> dict[str, Any]:
    """A completion from the events of a server that streams whether asked to or not. Raises ValueError where they break off."""
    said: list[str] = []
    reason = usage = None
    for line in text.split("\n"):
        data = line.removeprefix("data:").strip() if line.startswith("data:") else "[DONE]"
        if data == "[DONE]":
            continue
        event = json.loads(data)
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            said.append(choice["delta"].get("content") or "")
            reason = choice.get("finish_reason") or reason
    if reason is None:
        raise ValueError("the stream breaks off")
    return {"choices": [{"message": {"content": "".join(said)}, "finish_reason": reason}], "usage": usage}
