"""Vectors from a server on loopback, and topics made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.instructions.embeddings import HttpEmbedder
from data.instructions.settings import TopicSettings
from data.instructions.teacher import TeacherError
from data.instructions.topics import find_topics
from tests.data.instructions.server import Server

WORDS = ("train", "bread", "鱼", "税")
TEXTS = [f"{word} number {number}" for number in range(40) for word in ("train", "bread")]


def settings(server: Server, **more: Any) -> TopicSettings:
    return TopicSettings(embedder_url=server.url, embedder_model="e", teacher_retries=1, teacher_concurrency=2, teacher_timeout_seconds=30, **more)


def vectors(texts: list[str]) -> str:
    """One direction for each word, of any length; listed from the last to the first, as a server may."""
    rows = [{"index": i, "embedding": [3.0 * (word in text) + 0.01 for word in WORDS]} for i, text in enumerate(texts)]
    return json.dumps({"data": rows[::-1]})


def embedder(server: Server, folder: Path | None = None) -> HttpEmbedder:
    return HttpEmbedder(settings(server), folder, sleep=lambda seconds: None)


@pytest.fixture
def embedding(server: Server) -> Server:
    """The server answers each request with the vectors of its texts."""

    class Script(list[Any]):
        def __getitem__(self, number: Any) -> Any:
            return vectors(server.seen[-1]["input"])

    server.script = Script(["any"])
    return server


def test_vectors_of_all_texts_in_their_order_and_paid_once(embedding: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDER_API_KEY", "k")
    one = HttpEmbedder(settings(embedding).model_copy(update={"teacher_concurrency": 1}), tmp_path)
    found = one.embed(TEXTS)
    assert found.shape == (80, 4) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert (found[::2].argmax(axis=1) == 0).all() and (found[1::2].argmax(axis=1) == 1).all()
    assert [len(body["input"]) for body in embedding.seen] == [64, 16]
    assert embedding.authorizations == ["Bearer k"] * 2
    again = embedder(embedding, tmp_path)
    assert np.array_equal(again.embed(TEXTS), found) and again.requests == 0


@pytest.mark.parametrize(
    "answer",
    ["{}", "[]", '{"data": []}', '{"data": [{"index": 0, "embedding": [1, 2]}]}', '{"data": [{"index": 0}, {"index": 1}]}',
     '{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}', '{"data": [{"index": 0, "embedding": {}}, {"index": 1, "embedding": {}}]}',
     '{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1]}]}', '{"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}'],
)  # fmt: skip
def test_what_holds_no_vectors_is_asked_again_and_then_an_error(server: Server, answer: str) -> None:
    server.script = [answer]
    with pytest.raises(TeacherError, match=r"the embedder at http://127.* failed: the answer holds no 2 embeddings .*\(2 tries\)"):
        embedder(server).embed(["a", "b"])
    server.script = [(404, "no such model", {})]
    with pytest.raises(TeacherError, match=r"check embedder_url .* and that the server has the model 'e'"):
        embedder(server).embed(["a", "b"])


def test_topics_by_meaning_where_words_tell_nothing(embedding: Server) -> None:
    pytest.importorskip("sklearn")
    texts = [f"{word} {number}{number + 1}" for number in range(6) for word in ("train", "bread")] + [f"{word}{mark}" for mark in "甲乙丙丁" for word in "鱼税"]
    chosen = settings(embedding, topics=2)
    topics, left_out = find_topics(texts, chosen, embedder(embedding).embed)
    grouped = {frozenset(texts[index] for index in topic.members) for topic in topics}
    assert grouped == {frozenset(text for text in texts if word in text) for word in WORDS} and not left_out
    assert [topic.lang for topic in topics] == ["en", "en", "zh", "zh"]


def test_an_embedder_is_named_whole() -> None:
    with pytest.raises(ValueError, match="give embedder_url and embedder_model, or neither"):
        TopicSettings(embedder_url="http://localhost:1/v1")
