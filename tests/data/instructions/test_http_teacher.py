"""The HTTP teacher against a server on loopback that does everything a server should not."""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from data.instructions.http_teacher import HttpTeacher
from data.instructions.self_instruct import run
from data.instructions.settings import SelfInstructSettings
from data.instructions.teacher import Completion, JournaledTeacher, Prompt, TeacherError, Usage
from tests.data.instructions.server import Server, answer
from tests.data.instructions.test_self_instruct import SEEDS, block

KEY = 'sk-very/secret"key'
VARIABLE = "TEST_TEACHER_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


class Teacher(HttpTeacher):
    """Waits for nothing, and remembers how long it would have waited."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.waited: list[float] = []
        super().__init__(url, "tiny", **{"key_variable": VARIABLE, "timeout": 1, "retries": 3, "sleep": self.waited.append, **settings})


PROMPT = Prompt("Continue.", "en", 3, max_tokens=50, temperature=0.5)


def test_a_request_and_its_answer(server: Server) -> None:
    completion = Teacher(server.url).complete(PROMPT)
    assert completion == Completion(block(4, "Tell me about 0 of the rivers.", "It is long."), "stop", Usage(7, 9))
    assert server.seen == [
        {"model": "tiny", "messages": [{"role": "user", "content": "Continue."}], "max_tokens": 50, "temperature": 0.5, "seed": 3}
    ]
    assert server.authorizations == [f"Bearer {KEY}"]


def test_a_url_is_shown_without_its_password() -> None:
    assert repr(HttpTeacher("http://user:secret@localhost:1/v1/", "tiny")) == "HttpTeacher('http://localhost:1/v1/chat/completions', 'tiny')"
    for url in ("http://user:secret@localhost/v1", "http://localhost/v1?key=secret", "ftp://localhost"):
        with pytest.raises(ValueError, match="teacher_url"):
            SelfInstructSettings(teacher_url=url, teacher_model="tiny", target=1)


def test_without_a_key_no_header_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    Teacher(server.url + "/").complete(PROMPT)
    assert server.authorizations == [None]


@pytest.mark.parametrize(
    "trouble",
    [(429, "slow down", {}), (500, "oops", {}), (503, "", {}), "hang up", "truncate", "slow", "drip", "nonsense", "{}", "[]", '{"choices": []}', answer("x", "stop").replace('"x"', "null")],
    ids=str,
)  # fmt: skip
def test_trouble_that_passes(server: Server, trouble: Any) -> None:
    server.script = [trouble, trouble, "length"]
    teacher = Teacher(server.url, timeout=1.5 if trouble in ("slow", "drip") else 30)  # a stalled machine is no trouble
    assert teacher.complete(PROMPT) == Completion("cut of", "length", Usage(7, 9))
    assert len(server.seen) == 3
    first, second = teacher.waited
    assert 0.75 <= first <= 1.25
    assert 1.5 <= second <= 2.5


def test_it_waits_as_long_as_the_server_asks_within_reason(server: Server) -> None:
    server.script = [(429, "", {"Retry-After": "7"}), (429, "", {"Retry-After": "86400"}), (429, "", {"Retry-After": "Wed, 21 Oct 2015"}), "ok"]
    teacher = Teacher(server.url)
    teacher.complete(PROMPT)
    assert teacher.waited[:2] == [7, 60]
    assert 3 <= teacher.waited[2] <= 5


def test_it_waits_until_the_date_that_the_server_names(server: Server) -> None:
    dates = [format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True) for seconds in (30, -3600)]
    server.script = [*((503, "", {"Retry-After": date}) for date in dates), "ok"]
    teacher = Teacher(server.url)
    teacher.complete(PROMPT)
    assert 25 <= teacher.waited[0] <= 30
    assert 1.5 <= teacher.waited[1] <= 2.5  # past already: their clock or ours is wrong


def test_no_more_requests_in_flight_than_allowed(server: Server, tmp_path: Path) -> None:
    server.script = ["take a moment"]
    prompts = [Prompt("Continue.", "en", call) for call in range(12)]
    journaled = JournaledTeacher(Teacher(server.url, concurrency=3), tmp_path / "journal", concurrency=6)
    assert len(journaled.complete_all(prompts)) == 12
    assert server.most_in_flight == 3
    assert [json.loads(line)["key"] for line in (tmp_path / "journal").read_text().splitlines()] == [prompt.key() for prompt in prompts]


def test_of_calls_asked_together_the_paid_ones_are_kept_when_one_fails(server: Server, tmp_path: Path) -> None:
    server.script = ["ok", "ok", (400, "no", {}), "ok"]
    prompts = [Prompt("Continue.", "en", call) for call in range(4)]
    with pytest.raises(TeacherError, match="HTTP 400: no"):
        JournaledTeacher(Teacher(server.url, cache=tmp_path / "cache"), tmp_path / "journal").complete_all(prompts)
    paid = len(list((tmp_path / "cache").rglob("*.json")))
    assert paid == len(server.seen) - 1
    server.script = ["ok"]
    again = Teacher(server.url, cache=tmp_path / "cache")
    assert len(JournaledTeacher(again, tmp_path / "journal").complete_all(prompts)) == 4
    assert again.requests == 4 - paid


@pytest.mark.parametrize(
    ("trouble", "tries", "cause"),
    [
        ((429, "slow down", {}), 4, r"HTTP 429: slow down \(4 tries\); run again later"),
        ((500, "oops", {}), 4, r"HTTP 500: oops \(4 tries\)"),
        ("nonsense", 3, r"no chat completion \(JSONDecodeError\): 'nonsense' \(3 tries\); is the server running, and is teacher_url right"),
        ("hang up", 3, r"the connection broke: .* \(3 tries\); is the server running"),
        ("slow", 3, r"did not answer within 0.3 s \(teacher_timeout_seconds\)"),
        ((401, f"wrong key {KEY}", {}), 1, rf"HTTP 401: wrong key \[key\]; the environment variable {VARIABLE} is set, but was not accepted"),
        ((404, "no such model", {}), 1, r"HTTP 404: no such model; check teacher_url .* and that the server has the model 'tiny'"),
        ((400, "max_tokens too large", {}), 1, r"HTTP 400: max_tokens too large; check"),
        ("redirect", 1, r"HTTP 307"),
    ],
    ids=str,
)
def test_trouble_that_stays(server: Server, trouble: Any, tries: int, cause: str) -> None:
    server.script = [trouble]
    with pytest.raises(TeacherError, match=rf"the teacher at {server.url}/chat/completions failed: .*{cause}"):
        Teacher(server.url, timeout=0.3 if trouble == "slow" else 30).complete(PROMPT)
    assert len(server.seen) == tries


def test_a_teacher_that_is_down_from_the_start() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:{KEY.replace('/', '').replace(chr(34), '')}@127.0.0.1:{free.getsockname()[1]}/v1"
    teacher = Teacher(url, retries=50)
    with pytest.raises(TeacherError) as caught:
        teacher.complete(PROMPT)
    assert len(teacher.waited) == 2 and sum(teacher.waited) < 5
    assert "Connection refused" in str(caught.value)
    assert "is the server running" in str(caught.value)
    assert "@" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "http:///v1", "http://[::1", "http://127.0.0.1:99999/v1", "http://no-such-host.invalid/v1"])
def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(TeacherError, match="teacher"):
        Teacher(url).complete(PROMPT)


def test_a_key_that_cannot_be_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sk-secret\nx: y")
    with pytest.raises(TeacherError, match=f"{VARIABLE} holds characters that no key has") as caught:
        Teacher(server.url).complete(PROMPT)
    assert "secret" not in str(caught.value)
    assert server.seen == []


def test_the_cache_pays_nothing_twice(server: Server, tmp_path: Path) -> None:
    first = Teacher(server.url, cache=tmp_path).complete(PROMPT)
    again = Teacher(server.url, cache=tmp_path)
    assert (again.complete(PROMPT), again.requests) == (first, 0)
    other = again.complete(Prompt(PROMPT.text, "en", 4))  # the same words in another call are another request
    assert other != first
    for file in tmp_path.rglob("*.json"):
        file.write_text("half writ")
    assert Teacher(server.url, cache=tmp_path).complete(PROMPT).text != first.text


def choice(message: Any, reason: str | None = "stop") -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]}, ensure_ascii=False)


def events(*deltas: Any, reason: str | None = "stop") -> str:
    """A stream as servers write it: a role first, an empty delta last, the usage alone, a mark of the end."""
    rows: list[Any] = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    rows += [{"choices": [{"delta": {}, "finish_reason": reason}]}, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]
    return ": keep-alive\n\n" + "".join(f"data: {json.dumps(row, ensure_ascii=False)}\r\n\r\n" for row in rows) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (choice({"content": "<think>draft</think>\n好。", "reasoning_content": None}), Completion("好。")),
        (choice({"content": "好。", "reasoning_content": "draft"}), Completion("好。")),
        (choice({"content": None, "reasoning_content": "draft"}, "length"), Completion("", "length")),
        (choice({"content": None, "reasoning_content": "draft that never ended"}), Completion("")),
        (choice({"content": None}, "content_filter"), Completion("", "content_filter")),
        (choice({"content": None, "refusal": "I cannot."}), Completion("")),
        (choice({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}), Completion("ab")),
        (choice({"content": "cut"}, "MAX_TOKENS"), Completion("cut", "length")),
        (choice({"content": "x"}, None), Completion("x")),
        ("\ufeff\n\n" + choice({"content": "x"}), Completion("x")),
        (events({"role": "assistant", "content": ""}, {"reasoning_content": "h"}, {"content": "a\u2028b"}, {"content": "好"}), Completion("a\u2028b好", "stop", Usage(3, 4))),
        (events({"content": "cut"}, reason="length"), Completion("cut", "length", Usage(3, 4))),
    ],
)  # fmt: skip
def test_answers_in_many_shapes(server: Server, said: str, expected: Completion) -> None:
    server.script = [said]
    assert Teacher(server.url, retries=0).complete(PROMPT) == expected


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (events({"content": "half"}, reason=None), r"no chat completion \(ValueError\)"),
        ('data: {"error": {"message": "overloaded"}}\n\n', r"no chat completion \(KeyError\): .*overloaded"),
        (choice({"content": "好"}).encode("gbk"), "the answer is not UTF-8"),
        ("x" * (17 << 20), "sent more than 16 MiB"),
        ("<html>Sign in</html>", "is teacher_url right"),
    ],
)
def test_answers_that_are_none(server: Server, said: Any, cause: str) -> None:
    server.script = [said]
    with pytest.raises(TeacherError, match=cause):
        Teacher(server.url, retries=0, timeout=30).complete(PROMPT)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens"),
        (400, '{"error": {"code": "context_length_exceeded"}}'),
        (400, "the request exceeds the available context size. try increasing the context size"),
        (400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"),
        (413, "Request entity too large"),
    ],
)
def test_one_request_that_is_too_long_ends_no_run(server: Server, status: int, words: str) -> None:
    server.script = [(status, words, {}), "ok", (status, words, {}), "ok", (400, "max_tokens must be positive", {})]
    teacher = Teacher(server.url)
    with pytest.raises(TeacherError, match=f"HTTP {status}"):  # it may as well be every request
        teacher.complete(PROMPT)
    assert [teacher.complete(PROMPT).finish_reason for _ in range(3)] == ["stop", "too_long", "stop"]
    with pytest.raises(TeacherError, match="HTTP 400: max_tokens"):
        teacher.complete(PROMPT)


def test_fields_of_the_request_are_changed_and_left_out(server: Server, tmp_path: Path) -> None:
    """Without a seed too, two calls with one text are two requests, whose answers are kept apart."""
    settings = SelfInstructSettings(
        teacher_url=server.url, teacher_model="tiny", max_calls=1, teacher_request={"seed": None, "chat_template_kwargs": {"enable_thinking": False}}
    )
    teacher = HttpTeacher.from_settings(settings, tmp_path)
    first, second = (teacher.complete(Prompt("Continue.", "en", call)) for call in (0, 1))
    assert first != second
    assert server.seen[0].keys() == {"model", "messages", "max_tokens", "temperature", "chat_template_kwargs"}
    again = HttpTeacher.from_settings(settings, tmp_path)
    assert (again.complete(Prompt("Continue.", "en", 1)), again.requests) == (second, 0)


def test_a_key_that_is_a_word_stays_in_the_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback want any key at all, and their manuals say EMPTY."""
    monkeypatch.setenv(VARIABLE, "EMPTY")
    server.script = [answer("The basket is EMPTY.", "stop"), (401, "EMPTY", {})]
    teacher = Teacher(server.url)
    assert teacher.complete(PROMPT).text == "The basket is EMPTY."
    with pytest.raises(TeacherError, match=r"HTTP 401: \[key\]"):
        teacher.complete(PROMPT)


def test_a_short_key_that_is_no_word_is_cut_out_of_the_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "hunter2")
    server.script = [answer("You said hunter2.", "stop")]
    assert Teacher(server.url).complete(PROMPT).text == "You said [key]."


def test_a_redirect_is_named_and_not_followed(server: Server) -> None:
    server.script = [(301, "", {"Location": "https://me:hunter2@elsewhere.example/v1?key=hunter2"})]
    with pytest.raises(TeacherError, match=r"HTTP 301, a redirect to elsewhere\.example; give the address itself as teacher_url") as caught:
        Teacher(server.url).complete(PROMPT)
    assert "hunter2" not in str(caught.value) and len(server.seen) == 1


def test_proxies_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They carry requests to other hosts, and none to this machine; a bad one is named."""
    port = server.server_address[1]
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        Teacher(f"http://{host}:{port}/v1").complete(PROMPT)
    with pytest.raises(TeacherError, match=r"Connection refused .*; is the server running.* the environment's proxy; NO_PROXY names hosts"):
        Teacher("http://teacher.invalid/v1").complete(PROMPT)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    Teacher("http://teacher.invalid/v1").complete(PROMPT)
    assert len(server.seen) == 4
    monkeypatch.setenv("http_proxy", f"socks9://user:{KEY[:6]}@127.0.0.1:{port}")
    with pytest.raises(TeacherError, match="check the environment's proxies") as caught:
        Teacher("http://teacher.invalid/v1")
    assert KEY[:6] not in str(caught.value)


def test_a_run_over_http_dies_half_way_and_goes_on(server: Server, tmp_path: Path) -> None:
    settings = SelfInstructSettings(teacher_url=server.url, teacher_model="tiny", max_calls=6, max_rouge_l=0.95, languages=["en"])

    def teach(name: str) -> dict[str, Any]:
        return run(SEEDS, Teacher(server.url, retries=1), settings, tmp_path / name, tmp_path / "work")

    server.script = ["ok", "ok", "ok", (500, "", {})]
    with pytest.raises(TeacherError):
        teach("out")
    assert len(server.seen) == 5
    server.script = ["ok"]
    summary = teach("out")
    assert (summary["teacher_calls"], summary["accepted"], summary["teacher_tokens_in"], summary["teacher_tokens_out"]) == (6, 6, 42, 54)
    assert len(server.seen) == 8


def test_the_key_is_nowhere(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in what is written, logged, printed or raised, even when the server gives it back in every way."""
    caplog.set_level(logging.DEBUG)
    settings = SelfInstructSettings(
        teacher_url=server.url, teacher_model="tiny", teacher_key_variable=VARIABLE, max_calls=3, teacher_retries=0, languages=["en"]
    )
    assert KEY not in settings.model_dump_json()
    echo = block(4, f"Tell me about {KEY} of the rivers.", f"It is {KEY}.")
    said: list[str] = []
    for script in ([answer(echo, "stop"), answer(echo, "stop"), (401, json.dumps({"error": KEY}), {})], [(500, KEY, {})], [f"nonsense {KEY}"], ["hang up"]):
        server.script = [*["ok"] * len(server.seen), *script]
        teacher = HttpTeacher.from_settings(settings, tmp_path / "cache")
        said += [repr(teacher), str(vars(teacher))]
        with pytest.raises(TeacherError) as caught:
            run(SEEDS, teacher, settings, tmp_path / "out", tmp_path / "work")
        said += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    server.script = ["ok"]
    run(SEEDS, teacher, settings, tmp_path / "out", tmp_path / "work")
    said += [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    said += [caplog.text, *capfd.readouterr(), str(tmp_path)]
    assert len(said) > 12
    assert any("[key]" in text for text in said)
    for text in said:
        for form in (KEY, json.dumps(KEY)[1:-1], KEY.replace("/", "\\/"), json.dumps(json.dumps(KEY))[1:-1]):
            assert form not in text
    assert os.environ[VARIABLE] == KEY
