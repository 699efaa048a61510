"""A teacher behind an OpenAI-compatible server: base URL, model, key from the environment.

The key is read from its variable for each request, goes into the Authorization header and nowhere else: errors are
raised anew, without the request they came from, and whatever the server sends back is searched for it first. Redirects
are not followed, since they could carry the key to another host.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from data.instructions.lines import excerpt, write_json
from data.instructions.settings import TeacherSettings
from data.instructions.teacher import Completion, Prompt, TeacherError, completion_from

_FIRST_WAIT = 1.0  # seconds before the second try; doubles with each
_LONGEST_WAIT = 60.0  # seconds; also the most that a server's Retry-After is believed
_RETRIED = {408, 409, 425, 429}  # and every 5xx
_MAX_ANSWER = 16 * 2**20  # bytes; a completion of 4,000 tokens is about 20 kB
_CONNECT_SECONDS = 10.0
_HIDDEN = "[key]"


class _Retry(Exception):
    """This try failed in a way that may pass; `cause` is fit to be shown, `wait` is what the server asked for."""

    def __init__(self, cause: str, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.wait, self.unreachable = cause, wait, unreachable


class HttpTeacher:
    """Asks `POST {url}/chat/completions`. Answers are cached on disk by request, so that nothing is paid twice.

    Several threads may ask at a time; `concurrency` of them are let through, the others wait their turn.

    Args:
        url: base URL, with or without a final slash, e.g. http://localhost:8000/v1; a query has no place in it.
        key_variable: environment variable with the key; unset or empty = no Authorization header.
        timeout: seconds of one request, from sending to the last byte, however slowly bytes come.
        retries: further tries after 408, 409, 425, 429, 5xx, a time-out, a broken connection or a broken answer. A
            server that has never answered is given two further tries only, so that a wrong URL fails within seconds.
        concurrency: requests in flight at most.
        cache: folder of answers by request; null = no cache.
        extra: more fields of every request's body, for a server that needs them.
        sleep: waits that many seconds (tests pass their own).
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
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._key_variable = key_variable
        self._timeout = timeout
        self._retries = retries
        self._cache = cache
        self._extra = dict(extra or {})
        self._sleep = sleep
        self._answered = False
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=concurrency),
        )
        self.requests = 0  # sent over the network, tries counted one by one

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

    def __repr__(self) -> str:
        return f"HttpTeacher({self.shown_url!r}, {self._model!r})"

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown: without user, password and query."""
        parts = urlsplit(self._url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def complete(self, prompt: Prompt) -> Completion:
        """Raises TeacherError: names URL and cause, and what can be done."""
        body = self._body(prompt)
        cached = self._cached(body)
        if cached is not None:
            return cached
        with self._slots:
            return self._insist(prompt, body)

    def _insist(self, prompt: Prompt, body: dict[str, Any]) -> Completion:
        """Ask until there is an answer, or no try is left. A thread that waits keeps its slot, so the server is left in peace."""
        waits = random.Random(prompt.call)  # noqa: S311  # jitter is no secret
        attempt = 0
        while True:
            try:
                completion = self._ask(body)
            except _Retry as failed:
                allowed = self._retries
                if failed.unreachable and not self._answered:
                    allowed = min(allowed, 2)
                if attempt >= allowed:
                    raise self._error(f"{failed.cause} ({attempt + 1} tries)", _advice(failed)) from None
                backed_off = _FIRST_WAIT * 2**attempt * waits.uniform(0.75, 1.25)
                self._sleep(min(_LONGEST_WAIT, failed.wait if failed.wait is not None else backed_off))
                attempt += 1
            else:
                self._keep(body, completion)
                return completion

    # ---- one try ----

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            **self._extra,
            "seed": prompt.call,  # two calls with one text are two requests, here and in the cache
        }

    def _ask(self, body: dict[str, Any]) -> Completion:
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self._lock:
            self.requests += 1
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream("POST", self._url, json=body, headers=headers) as response:
                raw = self._read(response, deadline)
                status, wait = response.status_code, response.headers.get("retry-after")
        except httpx.TimeoutException as error:
            kind = "did not accept a connection" if isinstance(error, httpx.ConnectTimeout) else "did not answer"
            raise _Retry(f"{kind} within {self._timeout:g} s", unreachable=isinstance(error, httpx.ConnectTimeout)) from None
        except httpx.ConnectError as error:
            raise _Retry(f"no connection: {_without(str(error), key)}", unreachable=True) from None
        except httpx.TransportError as error:
            raise _Retry(f"the connection broke: {type(error).__name__}: {_without(str(error), key)}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
            raise self._error(f"{type(error).__name__}: {_without(str(error), key)}", "check teacher_url") from None
        self._answered = True
        text = _without(raw.decode("utf-8", "replace"), key)
        if status != 200:
            self._refused(status, text, wait)
        return _completion(text)

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        """The whole body; a server that drips bytes does not outlast the time limit."""
        pieces, size = [], 0
        for piece in response.iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_ANSWER:
                raise _Retry(f"sent more than {_MAX_ANSWER >> 20} MiB")
            if time.monotonic() > deadline:
                raise _Retry(f"did not answer within {self._timeout:g} s")
        return b"".join(pieces)

    def _refused(self, status: int, text: str, wait: str | None) -> None:
        cause = f"HTTP {status}: {excerpt(' '.join(text.split()))}"
        if status in _RETRIED or status >= 500:
            raise _Retry(cause, _seconds(wait))
        if status in (401, 403):
            state = "is set, but was not accepted" if self._key() else "is not set"
            raise self._error(cause, f"the environment variable {self._key_variable} {state}")
        if status == 404:
            raise self._error(cause, f"check teacher_url and that the server has the model {self._model!r}")
        raise self._error(cause, "check teacher_url, teacher_model, max_tokens and temperature")

    def _key(self) -> str:
        key = os.environ.get(self._key_variable, "").strip()
        if not all(" " < char <= "~" for char in key):
            raise self._error(
                "the key cannot be sent", f"{self._key_variable} holds characters that no key has (a line break, a space?)"
            )
        return key

    def _error(self, cause: str, advice: str) -> TeacherError:
        return TeacherError(f"the teacher at {self.shown_url} failed: {_without(cause, os.environ.get(self._key_variable, ''))}; {advice}")

    # ---- the cache ----

    def _place(self, body: dict[str, Any]) -> Path | None:
        if self._cache is None:
            return None
        payload = json.dumps([self.shown_url, body], sort_keys=True).encode()
        digest = hashlib.blake2b(payload, digest_size=16).hexdigest()
        return self._cache / digest[:2] / f"{digest}.json"

    def _cached(self, body: dict[str, Any]) -> Completion | None:
        place = self._place(body)
        if place is None or not place.is_file():
            return None
        try:
            return completion_from(json.loads(place.read_text(encoding="utf-8")))
        except ValueError:
            return None  # not written by this class; asked for anew and written over

    def _keep(self, body: dict[str, Any], completion: Completion) -> None:
        place = self._place(body)
        if place is not None:
            write_json(place, completion.as_dict())


def _completion(text: str) -> Completion:
    """The first choice of a chat completion. Raises _Retry where the answer is none."""
    try:
        answer = json.loads(text)
        choice = answer["choices"][0]
        content = choice["message"]["content"]
        if not isinstance(content, str):
            raise TypeError("content is no text")
        reason = "length" if choice.get("finish_reason") == "length" else "stop"
        return completion_from({"text": content, "finish_reason": reason, "usage": answer.get("usage")})
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Retry(f"the answer is no chat completion ({type(error).__name__}): {excerpt(text)!r}") from None


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header asks for: seconds, or an HTTP date (RFC 9110, 10.2.3); None where it says neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _advice(failed: _Retry) -> str:
    if failed.unreachable:
        return "is the server running, and is teacher_url right?"
    return "run again later: what was answered so far is kept; or raise teacher_retries or teacher_timeout_seconds"


def _without(text: str, key: str) -> str:
    """`text` without the key, as it stands or as JSON and URLs write it."""
    key = key.strip()
    if not key:
        return text
    for form in {key, json.dumps(key)[1:-1], key.replace("/", "\\/")}:
        text = text.replace(form, _HIDDEN)
    return text
