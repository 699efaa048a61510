"""Topics, their phrases and patterns; questions in, a domain instruction set out."""

from __future__ import annotations

import builtins
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("sklearn")

from data.instructions.parsing import parse
from data.instructions.prompts import topic_prompt
from data.instructions.settings import TopicSettings
from data.instructions.synthesis import run
from data.instructions.teacher import Completion, Exhausted, Prompt, TeacherError, Usage
from data.instructions.topics import document_counts, find_topics, key_phrases, sentence_patterns
from data.shards import write_shard
from tests.data.instructions.test_formats import written
from tests.data.instructions.test_self_instruct import block, lines

TRAINS = [f"When does the night train to {town} leave on {day}?" for town in ("Merrow", "Tarn", "Orsk", "Velm") for day in ("Monday", "Friday", "Sunday")]
BREAD = [f"How do I bake {kind} bread with {what}?" for kind in ("rye", "spelt", "corn") for what in ("honey", "sour dough", "walnuts", "little salt")]
FISH = [f"{town}的{fish}应该怎么烤才好吃？" for town in ("灰泉镇", "炉谷镇", "山南村") for fish in ("鲈鱼", "鳗鱼", "鲤鱼")]
TAXES = [f"怎样申报{year}年的{kind}所得税？" for year in ("去", "今", "前") for kind in ("个人", "企业", "房屋")]
SETTINGS = TopicSettings(topics=2, min_texts=3)


def shuffled() -> list[str]:
    texts = [*TRAINS, *BREAD, *FISH, *TAXES]
    random.Random(1).shuffle(texts)
    return texts


@pytest.mark.parametrize("settings", [SETTINGS, TopicSettings(method="dbscan", max_distance=0.9)], ids=["kmeans", "dbscan"])
def test_topics_are_what_they_were_made_of(settings: TopicSettings) -> None:
    texts = shuffled()
    topics, left_out = find_topics([*texts, "?!", "Приветствую вас всех"], settings)
    assert {frozenset(texts[index] for index in topic.members) for topic in topics} == set(map(frozenset, (TRAINS, BREAD, FISH, TAXES)))
    assert [len(topic.members) for topic in topics] == [12, 12, 9, 9]
    assert left_out["no_words"] == 2
    assert find_topics(texts, settings) == (find_topics(texts, settings)[0], {})  # the same again


def test_phrases_and_patterns_of_the_topics() -> None:
    topics, _ = find_topics(shuffled(), SETTINGS)
    texts = shuffled()
    told = {texts[topic.members[0]].split()[0][:2]: topic for topic in topics}
    assert any("train" in phrase for phrase in told["Wh"].phrases) and any("bread" in phrase for phrase in told["Ho"].phrases)
    assert "when does the night train to … leave on …" in told["Wh"].patterns
    assert any("how do i bake" in pattern for pattern in told["Ho"].patterns)
    chinese = [topic for topic in topics if topic.lang == "zh"]
    assert {"所得税" in "".join(topic.phrases) for topic in chinese} == {True, False}
    assert any("应该怎么烤才好吃" in pattern for topic in chinese for pattern in topic.patterns)


def test_phrases_by_hand() -> None:
    # of the topic's four texts four hold "night train", no other does; "leave" is everywhere
    topic = ["night train a leave", "night train b leave", "night train c leave", "night train d leave"]
    everything = document_counts([*topic, *(f"word{i} leave" for i in range(20))])
    assert key_phrases(topic, everything, 24, 1) == ["night train"]
    assert sentence_patterns(["go to the Xa", "go to the Yb", "stay"], 3) == ["go to the …"]


def test_small_and_empty_sets() -> None:
    assert find_topics([], SETTINGS) == ([], {})
    assert find_topics(["Only one question here?"], SETTINGS) == ([], {"small_topic": 1})
    with_foreign = find_topics(["この町の古い市場について教えてください。"] * 4, SETTINGS)
    assert with_foreign == ([], {"wrong_language": 4})
    french = [f"Comment puis-je réserver une place dans le train de nuit pour {town} ?" for town in ("Lyon", "Nantes", "Brest")]
    assert find_topics(french, SETTINGS) == ([], {"wrong_language": 3})


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
def test_questions_that_share_all_their_words_are_one_topic(method: str) -> None:
    [topic], left_out = find_topics([f"What is the visa for {'the ' * number}?" for number in range(30)], TopicSettings(method=method, topics=1))
    assert (len(topic.members), left_out) == (30, {})


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'crawl2chat\[topics\]'"):
        find_topics(TRAINS, SETTINGS)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_prompt_says_what_the_topic_is_and_its_form_can_be_read(lang: str) -> None:
    prompt = topic_prompt(["night train"], ["when does …"], ["When does\nit leave?"], lang, 7)
    for part in ("night train", "- when does …", "- When does it leave?", "7"):
        assert part in prompt
    [item] = parse(prompt[prompt.rindex("1. ") :], "stop")
    assert (item.instruction, item.input, item.output) == ("…", "", "…")


# ---- questions in, instructions out ----


class Domain:
    """Writes tasks about a topic, answers questions, counts; dies at call `last`."""

    def __init__(self, last: int = 10**9, ends: int = 10**9) -> None:
        self.last, self.ends, self.asked = last, ends, 0

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call >= self.last:
            raise TeacherError("the line is dead")
        if prompt.call >= self.ends:
            raise Exhausted
        self.asked += 1
        if "1. Instruction" not in prompt.text and "1. 指令" not in prompt.text:
            return Completion("" if "rye" in prompt.text else f"About {prompt.text}", "length" if "Orsk" in prompt.text else "stop", Usage(5, 6))
        name = {"train": "railway carriage", "bread": "oven"}.get(next((w for w in ("train", "bread") if w in prompt.text), ""), "锅")
        tasks = [f"Describe the {name} of your town.", f"Describe the {name} of your town!", f"Draw the {name} at noon.", f"Compare one {name} with another one, please, in a long and winding sentence about {name}."]
        return Completion("".join(block(number, task, "Fine.") for number, task in enumerate(tasks)) + block(9, tasks[-1].replace("please", "kindly"), "No."), "stop", Usage(50, 60))


def go(folder: Path, teacher: Any, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    questions = written(folder, *({"prompt": text} for text in shuffled()), {"prompt": TRAINS[0]}, "{broken", name="questions.jsonl")
    return run(questions, teacher, TopicSettings(**{"topics": 2, "max_rouge_l": 0.99, **settings}), folder / "out", folder / "work")


def test_a_domain_instruction_set(tmp_path: Path) -> None:
    summary = go(tmp_path, Domain(), max_jaccard=0.95)
    assert (summary["topics"], summary["texts"], summary["sources_rejected"]) == (4, 42, {"broken_json": 1, "duplicate": 1})
    assert summary["items"] == 4 * 5
    assert set(summary["rejected"]) <= {"blocked_word", "not_novel", "conflicting_output", "near_duplicate"}
    assert summary["answers"] == 42 - 4 - 3  # of rye bread nothing, of Orsk cut off
    assert summary["answers_rejected"] == {"empty_output": 4, "truncated": 3}
    records = lines(tmp_path / "out" / "conversations.jsonl")
    assert summary["conversations"] == len(records) == summary["written"] + summary["answers"]
    assert {record["source"] for record in records} == {"topic", "question"}
    assert summary["items"] == summary["written"] + sum(summary["rejected"].values())
    assert len(json.loads((tmp_path / "out" / "topics.json").read_text())["topics"]) == 4


def test_a_question_as_long_as_a_book_is_quoted_in_part_and_named_where_it_has_no_answer(tmp_path: Path) -> None:
    class Small(Domain):
        def complete(self, prompt: Prompt) -> Completion:
            assert len(prompt.text) < 10_000 or prompt.text.startswith("When"), "a topic's prompt"
            return super().complete(prompt) if len(prompt.text) < 10_000 else Completion("", "too_long")

    questions = written(tmp_path, *({"prompt": f"{text} {f'Or the train of {number}? ' * 50_000}"} for number, text in enumerate(TRAINS[:3])), *({"prompt": text} for text in BREAD), name="q")
    summary = run(questions, Small(), TopicSettings(topics=2), tmp_path / "out", tmp_path / "work")
    assert summary["answers_rejected"]["too_long"] >= 1


def test_what_was_asked_already_is_not_new(tmp_path: Path) -> None:
    class Echo(Domain):
        def complete(self, prompt: Prompt) -> Completion:
            return Completion(block(1, next(text for text in shuffled() if text in prompt.text), "Yes.") + block(2, f"Tell the tale of number {prompt.call}, slowly.", "No."))

    summary = go(tmp_path, Echo(), answer_questions=False, max_rouge_l=0.9)
    assert (summary["written"], summary["rejected"]) == (4, {"not_novel": 4})


def test_near_duplicates_of_what_was_written_are_dropped(tmp_path: Path) -> None:
    loose, strict = (go(tmp_path / str(jaccard), Domain(), max_jaccard=jaccard, answer_questions=False) for jaccard in (1.0, 0.7))
    assert strict["rejected"]["near_duplicate"] > 0 and "near_duplicate" not in loose["rejected"]


@pytest.mark.parametrize("last", [6])
def test_a_killed_synthesis_goes_on(tmp_path: Path, last: int) -> None:
    go(tmp_path / "whole", Domain(), teacher_concurrency=1)
    with pytest.raises(TeacherError):
        go(tmp_path / "x", Domain(last), teacher_concurrency=1)
    teacher = Domain()
    go(tmp_path / "x", teacher, teacher_concurrency=1)
    assert teacher.asked == 46 - last
    for name in ("conversations.jsonl", "rejected.jsonl", "summary.json", "topics.json"):
        assert (tmp_path / "x" / "out" / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes()


def test_documents_have_topics_too_and_a_teacher_may_run_out(tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus" / "documents" / "part-00000.parquet", pa.table({"text": [*shuffled(), None]}))
    summary = run(tmp_path / "corpus", Domain(ends=2), SETTINGS, tmp_path / "out", tmp_path / "work")
    assert (summary["teacher_calls"], summary["answers"]) == (2, 0)


def test_nothing_to_work_on_is_an_error(tmp_path: Path) -> None:
    for values, message in (([], "holds no question or document"), (["{"], "1 broken_json: JSON lines, a JSON array and Parquet are read"), ([{"prompt": "One single question?"}], "is in a topic of 3 texts")):
        with pytest.raises(ValueError, match=message):
            run(written(tmp_path, *values, name="q"), Domain(), SETTINGS, tmp_path / "out", tmp_path / "work")
