"""Where a person is asked, and what a refusal does."""

from __future__ import annotations

import io

import pytest

from flows import approval
from flows.recipe_errors import RecipeError
from flows.recipe_file import load


@pytest.mark.parametrize(
    ("approve", "expected"),
    [
        ([], [(None, "ppo")]),
        (["ppo"], [(None, "reward_model"), ("ppo", "ppo")]),
        (["tokenizer", "sft"], [("tokenizer", "pretrain"), ("sft", "ppo")]),
        (["elsewhere"], [(None, "ppo")]),
    ],
)
def test_stages_are_cut_before_what_needs_approval(approve: list[str], expected: list[tuple[str | None, str]]) -> None:
    assert approval.segments(["tokenizer", "pretrain", "sft", "reward_model", "ppo"], approve) == expected


def test_with_no_one_to_ask_it_is_refused_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(approval.Refused, match="ppo waits for a person's approval, and there is no one to ask"):
        approval.ask("ppo", {})


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("no", False), ("", False)])
def test_a_person_on_a_terminal_decides(monkeypatch: pytest.MonkeyPatch, answer: str, goes_on: bool) -> None:
    terminal = io.StringIO(answer + "\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    if goes_on:
        approval.ask("ppo", {})
    else:
        with pytest.raises(approval.Refused, match="ppo was refused"):
            approval.ask("ppo", {})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("approve_before=[pppo]", "approve_before: no training stage 'pppo'; allowed: pretrain, sft, reward_model, ppo, publish"),
        ("publish={model: reward_model}", "publish.model: 'reward_model' is no stage that leaves an answering model; allowed: pretrain, sft, ppo"),
        ("publish={measures: [{figur: ppo.win_rate}]}", "figur"),
    ],
)
def test_wrong_service_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        load("tiny", [override])
    assert message in str(refusal.value)
