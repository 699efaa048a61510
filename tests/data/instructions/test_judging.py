"""Responses sampled and ranked: positions do not count, ties and equals are told, a killed run goes on."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from data.instructions.formats import read_preferences
from data.instructions.judging import _verdict, by_scores, judge
from data.instructions.records import Conversation, Turn
from data.instructions.settings import JudgeSettings
from data.instructions.teacher import Completion, Exhausted, Prompt, TeacherError, Usage
from tests.data.instructions.test_formats import written
from tests.data.instructions.test_self_instruct import lines

PROMPTS = [{"prompt": "Which river?"}, {"instruction": "哪座桥？", "output": "旧桥"}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}]


class Policy:
    """Gives response number `call`, of growing length; the k-th of each prompt is empty or a copy where told so."""

    def __init__(self, responses: list[str], last: int = 10**9) -> None:
        self.responses, self.last, self.prompts = responses, last, list[Prompt]()

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= self.last:
            raise TeacherError("the line is dead")
        self.prompts.append(prompt)
        return Completion(self.responses[prompt.call % len(self.responses)], "stop", Usage(3, 4))


class Judge:
    """Likes the longer answer; with `bias` always the first, with `unsure` says so in a sentence."""

    def __init__(self, bias: bool = False, words: str = "{}", ends: int = 10**9) -> None:
        self.bias, self.words, self.ends, self.prompts = bias, words, ends, list[Prompt]()

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= self.ends:
            raise Exhausted
        self.prompts.append(prompt)
        marks = ("[Answer A]", "[Answer B]", "[Verdict]") if prompt.lang == "en" else ("[回答 A]", "[回答 B]", "[结论]")
        first, second = (prompt.text.split(a)[-1].split(b)[0].strip() for a, b in pairwise(marks))
        better = "A" if self.bias or len(first) > len(second) else "B" if len(second) > len(first) else "tie"
        return Completion(self.words.format(better), "stop", Usage(10, 1))


def go(folder: Path, policy: Any, judge_: Any, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    prompts = written(folder, *PROMPTS, "{broken", PROMPTS[0], name="prompts")
    return judge(prompts, policy, judge_, JudgeSettings(**{"responses": 3, "teacher_concurrency": 1, **settings}), folder / "out", folder / "work")


def test_rankings_by_a_judge(tmp_path: Path) -> None:
    policy, teacher = Policy(["two two", "one", "three three"]), Judge(words="I think it is {}.")
    summary = go(tmp_path, policy, teacher)
    records = read_preferences(tmp_path / "out" / "preferences.jsonl").records
    assert [record.responses for record in records] == [["three three", "two two", "one"]] * 3
    assert all(record.labels["margin"] == 1.0 for record in records)
    assert [turn.text for turn in records[2].turns] == ["a", "b", "c"]
    assert (summary["prompts"], summary["preferences"], summary["rejected"]) == (3, 3, {"broken_json": 1})
    assert summary["calls"] == {"samples": 9, "verdicts": 3 * 3 * 2}
    assert summary["tokens"] == {"prompt": 9 * 3 + 18 * 10, "completion": 9 * 4 + 18}
    assert {prompt.temperature for prompt in policy.prompts} == {1.0} and {prompt.temperature for prompt in teacher.prompts} == {0.0}
    assert "User: a\n\nAssistant: b\n\nUser: c\n\nAssistant:" in policy.prompts[6].text
    assert any("两个助手" in prompt.text for prompt in teacher.prompts)


def test_a_judge_that_likes_the_first_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no preference came of the 3 prompts of .*'no_difference': 3"):
        go(tmp_path / "a", Policy(["x", "yy", "zzz"]), Judge(bias=True))
    summary = go(tmp_path / "b", Policy(["x", "yy", "zzz"]), Judge(bias=True), swap=False)  # unless it is believed
    assert (summary["preferences"], summary["ties_share"], summary["calls"]["verdicts"]) == (3, 0.0, 9)


def test_copies_and_silence_are_no_responses(tmp_path: Path) -> None:
    go(tmp_path, Policy(["Same.", "same", "longer one", "", "short", "much longer", "", "x", "X."]), Judge())
    assert [record["responses"] for record in lines(tmp_path / "out" / "preferences.jsonl")] == [["longer one", "Same."], ["much longer", "short"]]
    assert [(line["reason"], line["text"]) for line in lines(tmp_path / "out" / "rejected.jsonl") if line["source"] == "sampling"] == [("too_few_responses", "c")]


def test_a_killed_judging_goes_on(tmp_path: Path) -> None:
    go(tmp_path / "whole", Policy(["a", "bb", "ccc"]), Judge())
    with pytest.raises(TeacherError):
        go(tmp_path / "x", Policy(["a", "bb", "ccc"], last=7), Judge())
    policy = Policy(["a", "bb", "ccc"])
    go(tmp_path / "x", policy, Judge())
    assert len(policy.prompts) == 2
    for name in ("preferences.jsonl", "rejected.jsonl", "summary.json"):
        assert (tmp_path / "x" / "out" / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes()
    with pytest.raises(ValueError, match="the recorded completions end after 4 calls"):
        go(tmp_path / "y", Policy(["a", "bb", "ccc"]), Judge(ends=4))


PROMPT = Conversation(turns=[Turn(role="user", text="Q")], labels={"reference": "r"})


@pytest.mark.parametrize(
    ("scores", "min_margin", "expected"),
    [
        ([0.1, 0.9, 0.5], 0.0, ["b", "c", "a"]), ([0.1, 0.9, 0.5], 0.4, ["b", "a"]), ([0.5, 0.5, 0.5], 0.0, None), ([0.5, 0.5, 0.2], 0.0, ["a", "c"]),
        ([-3.0, 2.0, 2.5], 1.0, ["c", "a"]),
    ],
)  # fmt: skip
def test_scores_of_any_kind_become_rankings(scores: list[float], min_margin: float, expected: list[str] | None) -> None:
    record = by_scores(PROMPT, ["a", "b", "c"], scores, min_margin)
    assert (record and record.responses) == expected
    if record:
        assert record.labels == {"reference": "r", "margin": pytest.approx(max(scores) - min(scores))}
        assert json.loads(record.line())["id"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A", "A"), ("[[B]]", "B"), ("**B**.", "B"), ("Both are fine.\nTie", "TIE"), ("平局。", "平局"), ("A\nBecause B lacks a reason.", "A"),
        ("Answer B is a better one.", "B"), ("A is better than B.", "TIE"), ("", "TIE"), ("I cannot say.", "TIE"), ("结论：A", "A"),
    ],
)  # fmt: skip
def test_verdicts_as_judges_write_them(said: str, expected: str) -> None:
    assert _verdict(said) == expected
