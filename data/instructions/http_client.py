"""A model behind an OpenAI-compatible server: requests with limits, retries and a cache on disk; its key is never shown.

The key is read from its variable for each request, goes into the Authorization header and nowhere else: errors are
raised anew, without the request they came from, and whatever the server sends back is searched for it first (see `_WORD`). Redirects
are not followed, since they could carry the key to another host. The environment's proxies are used as everywhere (HTTPS_PROXY,
NO_PROXY), but never for this machine itself.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from data.instructions.lines import excerpt, write_json
from data.instructions.teacher import TeacherError

_FIRST_WAIT = 1.0  # seconds before the second try; doubles with each
_LONGEST_WAIT = 60.0  # seconds; also the most that a server's Retry-After is believed
_RETRIED = {408, 409, 425, 429}  # and every 5xx
# How servers say that a request does not fit into the model (OpenAI, vLLM, SGLang, llama.cpp, DashScope), under 400, 413 or 422.
_TOO_LONG = re.compile(r"context.?(length|size|window)|(prompt|input|request|messages?)\b.{0,40}\b(too (long|large)|exceeds?)|range of input length", re.IGNORECASE)
_MAX_ANSWER = 16 * 2**20  # bytes; a completion of 4,000 tokens is about 20 kB, 64 embeddings of 4,096 numbers 5 MB
_CONNECT_SECONDS = 5.0  # as httpx has it; a host that drops everything is told after three of these
_HIDDEN = "[key]"
# A plain word is for servers that want any key (EMPTY, ollama): answers may hold it, only errors are searched for it.
_WORD = re.compile(r"[A-Za-z]{1,11}")

Answer = TypeVar("Answer")


class Retry(Exception):
    """This try failed in a way that may pass; `cause` is fit to be shown, `wait` is what the server asked for.

    `misled`: as it fails where there is no server, or another one than was meant.
    """

    def __init__(self, cause: str, wait: float | None = None, misled: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.wait, self.misled = cause, wait, misled


class TooLong(TeacherError):
    """A server that answers others refuses this one request, since it does not fit into the model."""


class HttpClient:
    """Asks `POST {url}/{path}`. Answers are cached on disk by request, so that nothing is paid twice.

    Several threads may ask at a time; `concurrency` of them are let through, the others wait their turn.

    Args:
        who: what errors call it; the settings that they name begin with it (teacher_url).
        url: base URL, with or without a final slash, e.g. http://localhost:8000/v1; a query has no place in it.
        key_variable: environment variable with the key; unset or empty = no Authorization header.
        timeout: seconds of one request, from sending to the last byte, however slowly the bytes of its body come.
        retries: further tries after 408, 409, 425, 429, 5xx, a time-out, a broken connection or a broken answer. What has
            never answered, or never as such a server does, is given two further tries only, so that a wrong URL fails within seconds.
        concurrency: requests in flight at most.
        cache: folder of answers by request; null = no cache.
        sleep: waits that many seconds (tests pass their own).

    Raises:
        TeacherError: `url` is none, or the environment names a proxy that cannot be used.
    """

    limits = "limits"  # what else a refused request may be about, for its error

    def __init__(
        self, who: str, url: str, path: str, model: str, *, key_variable: str, timeout: float, retries: int, concurrency: int,
        cache: Path | None, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        try:
            urlsplit(url)
        except ValueError as error:
            raise TeacherError(f"{who}_url is no URL: {error}") from None
        self._who, self._url, self._model = who, f"{url.rstrip('/')}/{path}", model
        self._key_variable = key_variable
        self._timeout = timeout
        self._retries = retries
        self._cache = cache
        self._sleep = sleep
        self._answered = False
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        try:
            self._client = httpx.Client(
                timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS), pool=None),
                limits=httpx.Limits(max_connections=concurrency),
                trust_env=not _is_here(self._url),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise self._error(f"{type(error).__name__}: {error}", "check the environment's proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)") from None
        self.requests = 0  # sent over the network, tries counted one by one

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown_url!r}, {self._model!r})"

    def close(self) -> None:
        """End its connections; nothing can be asked afterwards."""
        self._client.close()

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown: without user, password and query."""
        parts = urlsplit(self._url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def ask(
        self, body: dict[str, Any], read: Callable[[str], dict[str, Any]], accept: Callable[[dict[str, Any]], Answer], call: int = 0
    ) -> Answer:
        """The answer to a request, from the cache or the network.

        Args:
            read: the server's text to what the cache keeps; raises Retry where it is no answer.
            accept: what the cache keeps to what is wanted; raises ValueError where it is something else.
            call: its number: one text asked for in two calls is two requests, here and in the cache; draws the jitter of the waits.

        Raises:
            TeacherError: names URL and cause, and what can be done.
            TooLong: this request cannot be answered, others can.
        """
        cached = self._cached(body, call)
        if cached is not None:
            try:
                accepted = accept(cached)
                self._answered = True
                return accepted
            except ValueError:
                pass  # not written by this class; asked for anew and written over
        with self._slots:
            found = self._insist(body, read, call)
        place = self._place(body, call)
        if place is not None:
            write_json(place, found)
        return accept(found)

    def _insist(self, body: dict[str, Any], read: Callable[[str], dict[str, Any]], call: int) -> dict[str, Any]:
        """Ask until there is an answer, or no try is left. A thread that waits keeps its slot, so the server is left in peace."""
        waits = random.Random(call)  # noqa: S311  # jitter is no secret
        attempt = 0
        while True:
            try:
                found = read(self._send(body))
                self._answered = True
                return found
            except Retry as failed:
                allowed = self._retries
                if failed.misled and not self._answered:
                    allowed = min(allowed, 2)
                if attempt >= allowed:
                    raise self._error(f"{failed.cause} ({attempt + 1} tries)", self._advice(failed)) from None
                backed_off = _FIRST_WAIT * 2**attempt * waits.uniform(0.75, 1.25)
                self._sleep(min(_LONGEST_WAIT, failed.wait or backed_off))  # "at once", or a date that is past: its clock may be wrong
                attempt += 1

    # ---- one try ----

    def _send(self, body: dict[str, Any]) -> str:
        key = self._key()
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        with self._lock:
            self.requests += 1
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream("POST", self._url, json=body, headers=authorization) as response:
                raw = self._body(response, deadline)
                status, headers = response.status_code, response.headers
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout):
                raise Retry(f"accepted no connection within {min(self._timeout, _CONNECT_SECONDS):g} s", misled=True) from None
            raise self._late() from None
        except httpx.ConnectError as error:
            raise Retry(f"no connection: {_without(str(error), key)}", misled=True) from None
        except httpx.TransportError as error:
            raise Retry(f"the connection broke: {type(error).__name__}: {_without(str(error), key)}", misled=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
            raise self._error(f"{type(error).__name__}: {_without(str(error), key)}", f"check {self._who}_url") from None
        if status != 200:
            self._refused(status, _without(raw.decode("utf-8", "replace"), key), headers)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Retry(f"the answer is not UTF-8 ({error.reason}): {_without(excerpt(raw.decode('utf-8', 'replace')), key)!r}", misled=True) from None
        return text if _WORD.fullmatch(key) else _without(text, key)

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        """The whole body; a server that drips bytes does not outlast the time limit."""
        pieces, size = [], 0
        for piece in response.iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_ANSWER:
                raise Retry(f"sent more than {_MAX_ANSWER >> 20} MiB")
            if time.monotonic() > deadline:
                raise self._late()
        return b"".join(pieces)

    def _late(self) -> Retry:
        return Retry(f"did not answer within {self._timeout:g} s (teacher_timeout_seconds)", misled=True)

    def _refused(self, status: int, text: str, headers: httpx.Headers) -> None:
        cause = f"HTTP {status}: {excerpt(' '.join(text.split()))}"
        if status in _RETRIED or status >= 500:
            raise Retry(cause, _seconds(headers.get("retry-after")))
        if status in (400, 413, 422) and self._answered and _TOO_LONG.search(text):
            raise TooLong(str(self._error(cause, "it does not fit into the model")))
        if 300 <= status < 400:
            target = urlsplit(headers.get("location", "")).netloc.rpartition("@")[2]
            raise self._error(f"HTTP {status}, a redirect to {target or 'another path'}", f"give the address itself as {self._who}_url")
        if status in (401, 403):
            state = "is set, but was not accepted" if self._key() else "is not set"
            raise self._error(cause, f"the environment variable {self._key_variable} {state}")
        if status == 404:
            raise self._error(cause, f"check {self._who}_url (mostly it ends in /v1) and that the server has the model {self._model!r}")
        raise self._error(cause, f"check {self._who}_url, {self._who}_model and the request's {self.limits}")

    def _key(self) -> str:
        key = os.environ.get(self._key_variable, "").strip()
        if not all(" " < char <= "~" for char in key):
            raise self._error(
                "the key cannot be sent", f"{self._key_variable} holds characters that no key has (a line break, a space?)"
            )
        return key

    def _error(self, cause: str, advice: str) -> TeacherError:
        key = os.environ.get(self._key_variable, "")
        return TeacherError(f"the {self._who} at {self.shown_url} failed: {_without(cause, key)}; {advice}")

    def _advice(self, failed: Retry) -> str:
        if failed.misled and not self._answered:
            asked = f"is the server running, and is {self._who}_url right (mostly it ends in /v1)?"
            return asked + (" Requests to it go through the environment's proxy; NO_PROXY names hosts that are asked directly" if self._by_proxy() else "")
        return "run again later: what was answered so far is kept; or raise teacher_retries or teacher_timeout_seconds"

    def _by_proxy(self) -> bool:
        parts, proxies = urlsplit(self._url), getproxies()
        return not _is_here(self._url) and (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.netloc)

    # ---- the cache ----

    def _place(self, body: dict[str, Any], call: int) -> Path | None:
        if self._cache is None:
            return None
        payload = json.dumps([self.shown_url, body, call], sort_keys=True).encode()
        digest = hashlib.blake2b(payload, digest_size=16).hexdigest()
        return self._cache / digest[:2] / f"{digest}.json"

    def _cached(self, body: dict[str, Any], call: int) -> dict[str, Any] | None:
        place = self._place(body, call)
        if place is None or not place.is_file():
            return None
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def _is_here(url: str) -> bool:
    """Whether its host is this machine: no proxy stands between."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


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


def _without(text: str, key: str) -> str:
    """`text` without the key, as it stands or as JSON and URLs write it."""
    key = key.strip()
    if not key:
        return text
    for form in {key, json.dumps(key)[1:-1], key.replace("/", "\\/")}:
        text = text.replace(form, _HIDDEN)
    return text
