"""The whole loop over recorded completions: planted defects, resuming, limits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data.instructions.filters import REASONS, Filters
from data.instructions.parsing import Item
from data.instructions.seeds import read_seeds
from data.instructions.self_instruct import run
from data.instructions.settings import SelfInstructSettings
from data.instructions.teacher import (
    Completion,
    Exhausted,
    Prompt,
    RecordedTeacher,
    Teacher,
    TeacherError,
    Usage,
)
from tests.data.instructions.test_formats import written

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
BUNDLED = SAMPLES / "completions.jsonl"
SEEDS = SAMPLES / "seed_tasks.jsonl"
TINY = SelfInstructSettings(max_rouge_l=0.9)  # the tiny recipe's novelty bound
OUTPUTS = ("conversations.jsonl", "rejected.jsonl", "summary.json")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def block(number: int, instruction: str, output: str, given: str = "<noinput>") -> str:
    return f"{number}. Instruction: {instruction}\nInput: {given}\nOutput: {output}\n###\n"


class Scripted:
    """A teacher that says what it is told, and counts."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.prompts = texts, list[Prompt]()

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= len(self.texts):
            raise Exhausted
        self.prompts.append(prompt)
        return Completion(self.texts[prompt.call], "stop", Usage(10, 20))


class Dying:
    """Stops before call `last`, as a killed run does."""

    def __init__(self, teacher: Teacher, last: int) -> None:
        self.teacher, self.last, self.asked = teacher, last, 0

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= self.last:
            raise TeacherError("the line is dead")
        self.asked += 1
        return self.teacher.complete(prompt)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an unbroken run over the samples."""
    folder = tmp_path_factory.mktemp("tiny")
    run(SEEDS, BUNDLED, TINY, folder / "out", folder / "work")
    return folder / "out"


def test_every_planted_defect_is_caught_with_its_reason_and_nothing_else(tiny: Path) -> None:
    truth = {(line["completion"], line["item"]): line["reason"] for line in lines(SAMPLES / "completions_truth.jsonl")}
    caught = {(line["call"], line["item"]): line["reason"] for line in lines(tiny / "rejected.jsonl")}
    assert caught == truth
    assert set(truth.values()) == set(REASONS)


def test_counts_add_up(tiny: Path) -> None:
    summary = json.loads((tiny / "summary.json").read_text("utf-8"))
    conversations = lines(tiny / "conversations.jsonl")
    assert summary["items"] == summary["accepted"] + sum(summary["rejected"].values())
    assert summary["conversations"] == len(conversations) == summary["accepted"] + summary["seed_conversations"]
    assert summary["seed_conversations"] == summary["seed_tasks"] == len(SEEDS.read_text("utf-8").splitlines())
    recorded = lines(BUNDLED)
    assert summary["teacher_calls"] == len(recorded)
    assert summary["teacher_tokens_out"] == sum(line["usage"]["completion_tokens"] for line in recorded)
    assert summary["stopped"] == "teacher_exhausted"
    assert {record["lang"] for record in conversations} == {"en", "zh"}
    assert len({record["id"] for record in conversations}) == len(conversations)
    assert all(record["turns"][-1]["role"] == "assistant" for record in conversations)


@pytest.mark.parametrize("last", [0, 1, 57])
def test_a_killed_run_goes_on_where_it_stopped(tiny: Path, tmp_path: Path, last: int) -> None:
    with pytest.raises(TeacherError, match="the line is dead"):
        run(SEEDS, Dying(RecordedTeacher(BUNDLED), last), TINY, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "out").exists()
    journal = tmp_path / "work" / "journal.jsonl"
    with journal.open("ab") as file:  # the kill hit while a line was written
        file.write(b'{"key": "0123", "completion": {"te')
    teacher = Dying(RecordedTeacher(BUNDLED), 10**9)
    run(SEEDS, teacher, TINY, tmp_path / "out", tmp_path / "work")
    assert teacher.asked == len(lines(BUNDLED)) - last + 1  # the last one finds it exhausted
    for name in OUTPUTS:
        assert (tmp_path / "out" / name).read_bytes() == (tiny / name).read_bytes()


def test_a_journal_of_other_settings_is_not_believed(tmp_path: Path) -> None:
    texts = [block(4, f"Tell me about river number {n} and its banks.", "It is long.") for n in ("one", "two")]
    teacher = Scripted(*texts)
    for seed in (1, 2, 2):
        run(SEEDS, teacher, SelfInstructSettings(seed=seed, languages=["en"]), tmp_path / "out", tmp_path / "work")
    assert [prompt.call for prompt in teacher.prompts] == [0, 1, 0, 1]


def test_prompts_alternate_and_mix_human_and_generated_exemplars(tmp_path: Path) -> None:
    texts = [block(1, f"Why is the {thing} so much loved by all?", "It is old.") for thing in ("mill", "tall tower", "harbour wall at night")]
    teacher = Scripted(texts[0], "", texts[1], "", texts[2], "", "", "")
    run(SEEDS, teacher, TINY, tmp_path / "out", tmp_path / "work")
    assert [prompt.lang for prompt in teacher.prompts] == ["en", "zh"] * 4
    shown = [prompt.text.count("Instruction: ") + prompt.text.count("指令：") for prompt in teacher.prompts]
    assert shown == [8] * 8
    last = teacher.prompts[-2].text
    assert last.count("so much loved") == 2  # two generated ones among eight
    assert "<noinput>" in last
    assert "<无输入>" in teacher.prompts[-1].text
    assert len({prompt.text for prompt in teacher.prompts}) == 8


def test_it_stops_where_it_is_told_to(tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
    texts = ["".join(block(i, f"Explain {word} and {word} to a {word}.", "Yes.") for i, word in enumerate(words[n : n + 4])) for n in (0, 4, 8)]

    def stopped(**settings: Any) -> tuple[str, int, int]:
        folder = tmp_path / str(settings)
        settings = {"languages": ["en"], **settings}
        summary = run(SEEDS, Scripted(*texts, *[""] * 9), SelfInstructSettings(**settings), folder / "out", folder / "work")
        return summary["stopped"], summary["teacher_calls"], summary["accepted"]

    assert stopped(target=6) == ("target", 2, 6)
    assert stopped(max_calls=1) == ("max_calls", 1, 4)
    assert stopped(max_idle_calls=3) == ("nothing_new", 6, 12)
    assert stopped() == ("teacher_exhausted", 12, 12)


def test_a_live_teacher_of_whom_nothing_can_be_used_is_an_error(tmp_path: Path) -> None:
    live = SelfInstructSettings(teacher_url="http://localhost:1/v1", teacher_model="m", max_calls=2)
    with pytest.raises(ValueError, match=r"nothing that the teacher wrote in 2 calls was accepted \({'unparsable': 2}\)$"):
        run(SEEDS, Scripted("I cannot help.", "Sorry."), live, tmp_path / "out", tmp_path / "work")
    thinking = written(tmp_path, *[{"text": "<think>What shall I", "finish_reason": "length"}] * 2)
    with pytest.raises(ValueError, match=r"\(it wrote no task\); 2 of 2 answers were cut off: raise max_tokens \(2048\)"):
        run(SEEDS, RecordedTeacher(thinking), live, tmp_path / "out", tmp_path / "work2")


def test_a_seed_task_as_long_as_a_book_is_no_exemplar(tmp_path: Path) -> None:
    short, book = ({"instruction": f"Sum up {what}.", "instances": [{"input": text, "output": "Fine."}]} for what, text in (("a", "x"), ("b", "long " * 200_000)))
    teacher = Scripted("", "")
    summary = run(written(tmp_path, short, book, name="s"), teacher, SelfInstructSettings(languages=["en"]), tmp_path / "out", tmp_path / "work")
    assert summary["seed_conversations"] == 2
    assert max(len(prompt.text) for prompt in teacher.prompts) < 5000 and "Sum up a." in teacher.prompts[0].text


def test_progress_is_told_after_every_call(tmp_path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    run(SEEDS, BUNDLED, TINY, tmp_path / "out", tmp_path / "work", progress=lambda *args: told.append(args))
    count = len(lines(BUNDLED))
    assert [(done, total) for done, total, _ in told] == [(n + 1, count) for n in range(count)]
    assert told[-1][2].endswith("rejected")


def test_broken_lines_among_the_completions_are_kept_aside(tmp_path: Path) -> None:
    good = {"text": block(4, "Tell me about the long river.", "It is long.")}
    path = written(tmp_path, good, "{broken", {"no": "text"}, [1], r'{"text": "nul\u0000byte \ud800", "usage": {"prompt_tokens": "x"}}')
    summary = run(SEEDS, path, TINY, tmp_path / "out", tmp_path / "work")
    assert (summary["teacher_calls"], summary["accepted"], summary["rejected"]) == (5, 1, {"unparsable": 4})


def test_recorded_completions_as_people_have_them(tmp_path: Path) -> None:
    """Marks of byte order, UTF-16, gzip, an array; what is not UTF-8 is not guessed."""
    values = [{"text": "<think>镇</think>河"}, {"text": "镇", "finish_reason": "length"}]
    jsonl = "\r\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    forms = {"a.jsonl": jsonl.encode("utf-8-sig"), "b.jsonl": jsonl.encode("utf-16"), "c.jsonl.gz": gzip.compress(jsonl.encode()), "d.json": json.dumps(values).encode()}
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        teacher = RecordedTeacher(tmp_path / name)
        assert [teacher.complete(Prompt("x", "zh", call)) for call in range(len(teacher))] == [Completion("河"), Completion("镇", "length")], name
    (tmp_path / "gbk").write_bytes(jsonl.encode("gbk"))
    assert [RecordedTeacher(tmp_path / "gbk").complete(Prompt("x", "zh", call)).finish_reason for call in (0, 1)] == ["broken", "broken"]


def test_bad_seed_tasks_are_kept_aside_and_none_is_an_error(tmp_path: Path) -> None:
    good = {"instruction": "Name one tall tree.", "instances": [{"input": "", "output": "Oak."}]}
    seeds = written(tmp_path, good, good, "{broken", {"instruction": "Nenne einen Baum", "instances": [], "lang": "de"}, {"x": 1}, name="s")
    summary = run(seeds, written(tmp_path, {"text": ""}), TINY, tmp_path / "out", tmp_path / "work")
    assert (summary["seed_conversations"], summary["conversations"]) == (1, 1)
    assert summary["seed_rejected"] == {"broken_json": 1, "duplicate": 1, "no_instances": 1, "unknown_format": 1}
    with pytest.raises(ValueError, match=r"holds no seed task \(1 unknown_format: python -m data.instructions.convert --help names the layouts\)"):
        run(written(tmp_path, {"x": 1}), BUNDLED, TINY, tmp_path / "out", tmp_path / "work")
    with pytest.raises(ValueError, match="no seed task in zh; the seed tasks are in en"):
        run(seeds, BUNDLED, SelfInstructSettings(languages=["zh"]), tmp_path / "out", tmp_path / "work")


def test_seed_tasks_of_any_layout(tmp_path: Path) -> None:
    """One bad element of an array on one line costs itself; what is no single request and answer is counted."""
    chat = [{"role": "user", "content": "Name a tall tree."}, {"role": "assistant", "content": "Oak."}]
    values = [
        {"messages": chat}, {"instruction": "Sort it.", "instances": []}, {"instruction": "Sort it.", "context": "b a", "response": "a b"},
        {"messages": chat + chat}, {"question": "Which tree is tall?"},
    ]  # fmt: skip
    (tmp_path / "seeds.json").write_text(json.dumps(values))
    seeds = read_seeds(tmp_path / "seeds.json")
    assert [(task.instruction, task.input, task.output) for task in seeds.tasks] == [("Name a tall tree.", "", "Oak."), ("Sort it.", "b a", "a b")]
    assert [(line.line, line.reason) for line in seeds.rejected] == [(1, "no_instances"), (1, "several_turns"), (1, "no_answer")]


def test_instances_of_a_classification_task(tmp_path: Path) -> None:
    instances = [{"input": "up", "output": "down"}, {"input": "hot", "output": "cold"}]
    seeds = written(tmp_path, {"instruction": "Give the opposite of it.", "instances": instances, "is_classification": True}, name="s")
    run(seeds, written(tmp_path, {"text": ""}), TINY, tmp_path / "out", tmp_path / "work")
    records = lines(tmp_path / "out" / "conversations.jsonl")
    assert [record["turns"][0]["text"] for record in records] == ["Give the opposite of it.\nup", "Give the opposite of it.\nhot"]
    assert records[0]["labels"] == {"is_classification": True}
    assert records[0]["source"] == "seed"


# ---- the filters one by one ----


def decided(instruction: str, output: str | None = "Yes, it is.", given: str = "", **settings: Any) -> tuple[str | None, str | None]:
    filters = Filters(SelfInstructSettings(**settings))
    filters.remember("Name the tallest tower of the town.", "", "The Clock Tower.")
    filters.remember("Sort the words by length.", "a ccc bb", "a bb ccc")
    verdict = filters.decide(Item(0, "", instruction, given, output))
    return verdict.reason, verdict.value


@pytest.mark.parametrize(
    ("instruction", "more", "expected"),
    [
        ("Describe the old market square.", {}, (None, None)),
        ("Describe the market square.", {"min_words": 5}, ("too_short", "4")),
        ("描述一下老市场。", {"max_words": 6}, ("too_long", "7")),
        ("Describe the old market.", {"output": None}, ("no_output", None)),
        ("Describe the old market.", {"output": ""}, ("empty_output", None)),
        ("Describe what is said here.", {"given": "Rain!", "output": "rain! "}, ("output_equals_input", None)),
        ("Draw the old market square.", {}, ("blocked_word", "draw")),
        ("What is in the PICTURE above?", {}, ("blocked_word", "picture")),
        ("Describe the drawbridge of the castle.", {}, (None, None)),
        ("看图片说出镇子的名字", {}, ("blocked_word", "图片")),
        ("Describe the secret recipe of it.", {"blocked_words": ["Secret"]}, ("blocked_word", "secret")),
        ("... describe the old market square", {}, ("leading_punctuation", ".")),
        ("，说说老市场是什么样子", {}, ("leading_punctuation", "，")),
        ("“老市场”这个名字是怎么来的？", {}, (None, None)),
        ("《老市场》这本书讲的是什么？", {}, (None, None)),
        ("Décris la vieille place du marché aux enfants.", {}, ("wrong_language", "fr")),
        ("この町の古い市場について教えてください。", {}, ("wrong_language", "ja")),
        ("描述一下这个老市场的样子。", {"languages": ["en"]}, ("wrong_language", "zh")),
        ("Describe the old market square of it.", {"languages": ["zh"]}, ("wrong_language", "en")),
        ("name the tallest tower of the town", {"output": "The Sun Wall"}, ("conflicting_output", None)),
        ("name the tallest tower of the town", {"output": "the clock tower"}, ("not_novel", "copy")),
        ("Name the tallest old tower of the town.", {}, ("not_novel", "0.933 Name the tallest tower of the town.")),
        ("Sort the words by length.", {"given": "a ccc bb"}, ("conflicting_output", None)),
        ("Sort the words by length.", {"given": "dd e"}, ("not_novel", "1.000 Sort the words by length.")),
    ],
)
def test_reasons(instruction: str, more: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    assert decided(instruction, **more) == expected


def test_settings_of_a_teacher_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="needs teacher_model"):
        SelfInstructSettings(teacher_url="http://localhost", target=1)
    with pytest.raises(ValueError, match="need target or max_calls"):
        SelfInstructSettings(teacher_url="http://localhost", teacher_model="m")
