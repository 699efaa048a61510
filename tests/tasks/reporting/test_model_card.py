"""The model card: what the Hub reads of it, what it says, and that no text can write into it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from huggingface_hub import ModelCard
from pydantic import ValidationError

from tasks.reporting.model_card import ModelCardSettings, model_card, place
from tasks.store.artifacts import Draft, Result, Store
from tests.tasks.evaluated import Numbered
from tests.tasks.reporting.test_report import filled, made, tallied  # noqa: F401  # `made` is a fixture

STAGES = [
    {"name": "pretrain", "kind": "pretrain", "init": "meta/small-llama", "data": "/home/somebody/secret/texts"},
    {"name": "ppo", "kind": "ppo", "init": "pretrain", "data": "splits/ppo"},
]
HOSTILE = "x\n\n# Owned <script>alert(1)</script> [click](https://evil.example) ![i](//evil) | `a` **b** ~~c~~\n---\nlicense: mit"


def card(made: dict[str, Any], settings: ModelCardSettings | None = None, **samples: Any) -> str:  # noqa: F811
    figures = filled(made, judges={"rule": {"ppo": {"overall": tallied(0.7, {"no_answer": 2})}}})
    shown = [{"prompt": HOSTILE, "answers": {"ppo": HOSTILE}, **samples}, {"prompt": "unanswered", "answers": {"ppo": None}}]
    return model_card(settings or ModelCardSettings(), figures, STAGES, "ppo", shown)


def test_what_the_hub_reads(made: dict[str, Any]) -> None:  # noqa: F811
    settings = ModelCardSettings(licence="Apache-2.0", data_licences={"corpus": "CC BY 4.0"}, limits=["Knows little."])
    text = card(made, settings)
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.base_model) == ("apache-2.0", "transformers", "meta/small-llama")
    results = {result.metric_type: result.metric_value for result in data.eval_results or []}
    assert results == {"exact_match": 0.5, "win_rate": 0.7}
    for expected in (
        "| corpus | CC BY 4.0 |", "- Knows little.", "| right answers | 50.0% (20.0% to 80.0%) | 50.0% (20.0% to 80.0%) |", "5 of 100 crawled documents",
        "| rule | overall | 70.0% (60.0% to 80.0%) | 2 no\\_answer |", "| ppo | ppo | pretrain | splits/ppo | 0123456789 |",
    ):  # fmt: skip
        assert expected in text
    assert "/home/somebody" not in text and "unanswered" not in text


def test_without_a_licence_it_says_so(made: dict[str, Any]) -> None:  # noqa: F811
    text = card(made)
    assert "No licence is given for this model." in text and "names no licence of the data" in text
    assert ModelCard(text).data.license is None
    with pytest.raises(ValidationError, match="licence"):
        ModelCardSettings(licence="mit\n---\nx: y")


def test_texts_write_neither_markdown_nor_html_nor_metadata(made: dict[str, Any]) -> None:  # noqa: F811
    settings = ModelCardSettings(intended_use=HOSTILE, data_licences={HOSTILE: HOSTILE}, limits=[HOSTILE])
    text = card(made, settings)
    data = ModelCard(text).data
    assert data.license is None
    assert "<script" not in text and "://" not in text and not re.search(r"(?<!\\)\]\(", text)
    assert not [line for line in text.splitlines() if line.startswith("# Owned")]
    assert text.splitlines().count("---") == 2  # of the metadata
    assert "\\# Owned &lt;script&gt;" in text and "\\[click\\](https:&#47;&#47;evil.example)" in text and "\\| \\`a\\` \\*\\*b\\*\\*" in text


def test_placed_beside_the_weights(store: Store) -> None:
    def build(draft: Draft) -> Result:
        (draft.out / "model").mkdir()
        return Result({}, {})

    artifact, _ = store.make("ppo", 1, Numbered(number=1), {}, build)
    place(store, artifact, "银溪\n")
    assert (store.local(artifact) / "model" / "README.md").read_text(encoding="utf-8") == "银溪\n"
    assert store.find("ppo", artifact.fingerprint) == artifact


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(str(tmp_path / "store"))
