"""Responses sampled and ranked: positions do not count, ties and equals are told, a killed run goes on."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from data.instructions.formats import read_conversations, read_preferences
from data.instructions.judging import by_scores, judge, judge_by_scores
from data.instructions.records import Conversation, Turn
from data.instructions.sampling import read_samples, sample, shown, write_prompts
from data.instructions.settings import JudgeSettings, SampleSettings
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


def sampled(folder: Path, policy: Any, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    prompts = written(folder, *PROMPTS, "{broken", PROMPTS[0], name="prompts")
    return sample(prompts, policy, SampleSettings(**{"responses": 3, "teacher_concurrency": 1, **settings}), folder / "sampled", folder / "policy")


def judged(folder: Path, judge_: Any, **settings: Any) -> dict[str, Any]:
    settings = {"teacher_concurrency": 1, **settings}
    return judge(folder / "sampled" / "samples.jsonl", judge_, JudgeSettings(**settings), folder / "out", folder / "work")


def test_rankings_by_a_judge(tmp_path: Path) -> None:
    policy, teacher = Policy(["two two", "one", "three three"]), Judge(words="I think it is {}.")
    sampling, judging = sampled(tmp_path, policy), judged(tmp_path, teacher)
    records = read_preferences(tmp_path / "out" / "preferences.jsonl").records
    assert [record.responses for record in records] == [["three three", "two two", "one"]] * 3
    assert all(record.labels["margin"] == 1.0 for record in records)
    assert [turn.text for turn in records[2].turns] == ["a", "b", "c"]
    assert (sampling["prompts"], sampling["sampled"], sampling["rejected"], judging["preferences"]) == (3, 3, {"broken_json": 1}, 3)
    assert [sampling[f"teacher_{name}"] for name in ("calls", "tokens_in", "tokens_out")] == [9, 9 * 3, 9 * 4]
    assert [judging[f"teacher_{name}"] for name in ("calls", "tokens_in", "tokens_out")] == [18, 18 * 10, 18]
    assert {prompt.temperature for prompt in policy.prompts} == {1.0} and {prompt.temperature for prompt in teacher.prompts} == {0.0}
    assert "User: a\n\nAssistant: b\n\nUser: c\n\nAssistant:" in policy.prompts[6].text
    assert any("两个助手" in prompt.text for prompt in teacher.prompts)


def test_a_judge_that_likes_the_first_is_of_no_use(tmp_path: Path) -> None:
    sampled(tmp_path, Policy(["x", "yy", "zzz"]))
    with pytest.raises(ValueError, match=r"no preference came of the 3 prompts of .*'no_difference': 3"):
        judged(tmp_path, Judge(bias=True))
    summary = judged(tmp_path, Judge(bias=True), swap=False)  # unless it is believed
    assert (summary["preferences"], summary["ties_share"], summary["teacher_calls"]) == (3, 0.0, 9)


def test_verdicts_that_say_nothing_are_counted_and_the_way_out_is_named(tmp_path: Path) -> None:
    class Verbose(Judge):
        def complete(self, prompt: Prompt) -> Completion:
            return Completion("Let me think about", "length", Usage(10, 16)) if prompt.call < self.ends else Completion("no idea")

    sampled(tmp_path, Policy(["x", "yy", "zzz"]))
    with pytest.raises(ValueError, match=r"'no_difference': 3.*; 18 of 18 verdicts could not be read; 5 of 18 answers were cut off: raise max_tokens \(16\)"):
        judged(tmp_path, Verbose(ends=5))
    (tmp_path / "work" / "verdicts.jsonl").unlink()
    assert judged(tmp_path, Judge())["verdicts_unreadable"] == 0
    with pytest.raises(ValueError, match=r"'too_few_responses': 3.*; 9 of 9 answers were cut off: raise max_tokens \(512\)"):
        sampled(tmp_path / "mute", Verbose(ends=99))


def test_copies_and_silence_are_no_responses(tmp_path: Path) -> None:
    sampled(tmp_path, Policy(["Same.", "same", "longer one", "", "short", "much longer", "", "x", "X."]))
    assert [one.responses for one in read_samples(tmp_path / "sampled" / "samples.jsonl")] == [["Same.", "longer one"], ["short", "much longer"]]
    assert [(line["reason"], line["text"]) for line in lines(tmp_path / "sampled" / "rejected.jsonl") if line["source"] == "sampling"] == [("too_few_responses", "c")]
    with pytest.raises(ValueError, match=r"no two responses came of any of the 3 prompts .*'too_few_responses': 3"):
        sampled(tmp_path / "mute", Policy([""]))


def test_a_job_is_given_the_prompts_in_the_order_in_which_they_are_asked(tmp_path: Path) -> None:
    policy = Policy(["a", "bb", "ccc"])
    sampled(tmp_path, policy)
    for most, expected in ((None, 3), (2, 2)):
        assert write_prompts(tmp_path / "prompts", SampleSettings(max_prompts=most), tmp_path / "asked.jsonl") == expected
        given = [shown(record) for record in read_conversations(tmp_path / "asked.jsonl").records]
        assert given == [prompt.text for prompt in policy.prompts[::3]][:expected]
    (tmp_path / "none").write_text("{broken\n")
    with pytest.raises(ValueError, match=r"none holds no prompt .*broken_json"):
        write_prompts(tmp_path / "none", SampleSettings(), tmp_path / "asked.jsonl")


def test_a_killed_sampling_and_a_killed_judging_go_on(tmp_path: Path) -> None:
    sampled(tmp_path / "whole", Policy(["a", "bb", "ccc"]))
    judged(tmp_path / "whole", Judge())
    with pytest.raises(TeacherError):
        sampled(tmp_path / "x", Policy(["a", "bb", "ccc"], last=7))
    policy = Policy(["a", "bb", "ccc"])
    sampled(tmp_path / "x", policy)
    assert len(policy.prompts) == 2
    with pytest.raises(ValueError, match="the recorded completions end after 4 calls"):
        judged(tmp_path / "x", Judge(ends=4))
    teacher = Judge()
    judged(tmp_path / "x", teacher)
    assert len(teacher.prompts) == 14
    for name in ("sampled/samples.jsonl", "sampled/summary.json", "out/preferences.jsonl", "out/rejected.jsonl", "out/summary.json"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_reward_models_scores_rank(tmp_path: Path) -> None:
    sampled(tmp_path, Policy(["a", "bb", "ccc"]))
    samples = tmp_path / "sampled" / "samples.jsonl"
    names = [one.id for one in read_samples(samples)]
    rows = [[0.5, -2.0, float("nan")], [1.0, 1.0, 1.0], [None, 3.0, "high"]]
    scores = written(tmp_path, *({"id": name, "scores": row} for name, row in zip(names, rows, strict=True)), name="scores")
    summary = judge_by_scores(samples, scores, JudgeSettings(), tmp_path / "out")
    [line] = lines(tmp_path / "out" / "preferences.jsonl")
    assert (line["responses"], line["labels"]["margin"]) == (["a", "bb"], 2.5)
    assert (summary["prompts"], summary["rejected"]) == (3, {"no_difference": 1, "too_few_scored": 1})


@pytest.mark.parametrize("wrong", [[], [{"id": "x", "scores": [1, 2, 3]}], [{"id": None, "scores": None}], ["{broken"], [7], [{"id": None, "scores": [1]}]])
def test_scores_of_something_else_are_refused(tmp_path: Path, wrong: list[Any]) -> None:
    sampled(tmp_path, Policy(["a", "bb", "ccc"]))
    samples = tmp_path / "sampled" / "samples.jsonl"
    if wrong and isinstance(wrong[0], dict) and wrong[0]["id"] is None:  # the right prompt, too few scores
        wrong = [wrong[0] | {"id": next(iter(read_samples(samples))).id}]
    with pytest.raises(ValueError, match="does not hold the scores of"):
        judge_by_scores(samples, written(tmp_path, *wrong, name="scores"), JudgeSettings(), tmp_path / "out")


PROMPT = Conversation(turns=[Turn(role="user", text="Q")], labels={"reference": "r"})


@pytest.mark.parametrize(
    ("scores", "min_margin", "expected"),
    [
        ([0.1, 0.9, 0.5], 0.0, ["b", "c", "a"]), ([0.1, 0.9, 0.5], 0.4, ["b", "a"]), ([0.5, 0.5, 0.5], 0.0, None), ([0.5, 0.5, 0.2], 0.0, ["a", "c"]),
        ([-3.0, 2.0, 2.5], 1.0, ["c", "a"]), ([None, 1.0, 2.0], 0.0, ["c", "b"]), ([None, None, 2.0], 0.0, None),
    ],
)  # fmt: skip
def test_scores_of_any_kind_become_rankings(scores: list[float | None], min_margin: float, expected: list[str] | None) -> None:
    record = by_scores(PROMPT, ["a", "b", "c"], scores, min_margin)
    assert (record and record.responses) == expected
    if record:
        known = [score for score in scores if score is not None]
        ratings = [scores["abc".index(response)] for response in record.responses]
        assert record.labels == {"reference": "r", "margin": pytest.approx(max(known) - min(known)), "ratings": ratings}
        assert json.loads(record.line())["id"]
