"""A prompt is in one step and on one side, whatever else its source holds."""

from __future__ import annotations

import hashlib
import json
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data.instructions.near_duplicates import _led, leaders
from data.instructions.prompt_keys import STEPS, prompt_digest, prompt_key, side_of, step_of
from data.instructions.records import Turn
from data.instructions.settings import SplitSettings
from data.instructions.splits import SIDES, bring_questions, split
from tests.data.instructions.test_formats import written

SPLITS = [(step, side) for step in STEPS for side in SIDES]


def unlike(number: int) -> str:
    """A text that is near to no other number's."""
    return f"{number} {hashlib.md5(str(number).encode()).hexdigest()}"


def preference(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {unlike(number)}?", "chosen": f"Good {number}.", "rejected": f"Bad {number}.", **more}


def instruction(number: int) -> dict[str, Any]:
    return {"instruction": f"Task {unlike(number)}.", "output": f"Answer {number}."}


def read(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    return {
        (step, side): [json.loads(line) for line in (folder / step / f"{side}.jsonl").read_text("utf-8").splitlines()]
        for step, side in SPLITS
    }


def place(key: str, shares: tuple[float, ...], eval_share: float, seed: int) -> tuple[str, str]:
    digest = prompt_digest(key, seed)
    return step_of(digest, shares), side_of(digest, eval_share)


def prompt(record: dict[str, Any]) -> str:
    return str(record["turns"][0]["text"])


def test_shares_and_shapes(tmp_path: Path) -> None:
    preferences = written(tmp_path, *(preference(i, margin=1) for i in range(2000)), name="p.jsonl")
    instructions = written(tmp_path, *(instruction(i) for i in range(300)), name="i.jsonl")
    summary = split([preferences], [instructions], SplitSettings(), tmp_path / "out")
    found = read(tmp_path / "out")
    assert {key: len(records) for key, records in found.items()} == {(step, side): summary["splits"][step][side] for step, side in SPLITS}
    assert sum(map(len, found.values())) == 2300
    # every prompt is in one place only
    places = {}
    for key, records in found.items():
        for record in records:
            assert places.setdefault(prompt(record), key) == key
    # 2000 prompts: a share of 0.4 is 800, with a standard deviation of 22
    for step, share in (("reward", 0.4), ("ppo", 0.4)):
        assert abs(len(found[step, "train"]) + len(found[step, "eval"]) - share * 2000) < 100
        assert abs(len(found[step, "eval"]) - 0.1 * share * 2000) < 40
    sft = found["sft", "train"] + found["sft", "eval"]
    assert sum(prompt(record).startswith("Task") for record in sft) == 300  # never split over the steps
    assert 12 <= sum(prompt(record).startswith("Task") for record in found["sft", "eval"]) <= 50
    for record in sft:
        assert [turn["role"] for turn in record["turns"]] == ["user", "assistant"]
        assert record["turns"][1]["text"].startswith(("Good", "Answer"))
    for record in found["reward", "train"]:
        assert [text.split()[0] for text in record["responses"]] == ["Good", "Bad"]
        assert record["labels"] == {"margin": 1, "ratings": [1, 0]}
    for record in found["ppo", "train"]:
        assert (len(record["turns"]), "responses" in record) == (1, False)


def test_an_old_record_keeps_its_place_when_sources_grow_and_shrink(tmp_path: Path) -> None:
    small = written(tmp_path, *(preference(i) for i in range(400)), name="small.jsonl")
    grown = written(tmp_path, *(preference(i) for i in reversed(range(100, 1000))), name="grown.jsonl")
    split([small], [], SplitSettings(), tmp_path / "a")
    split([grown], [], SplitSettings(), tmp_path / "b")
    before = {prompt(record): key for key, records in read(tmp_path / "a").items() for record in records}
    after = {prompt(record): key for key, records in read(tmp_path / "b").items() for record in records}
    common = before.keys() & after.keys()
    assert len(common) == 300
    assert all(before[text] == after[text] for text in common)


def test_prompts_that_differ_in_form_only_stay_together(tmp_path: Path) -> None:
    forms = ("Which river is {}?", "which  river is {}", "WHICH RIVER IS {}!", "Ｗhich river, is “{}”？")
    values = [{"prompt": form.format(i), "chosen": f"a{j}", "rejected": "b"} for i in range(100) for j, form in enumerate(forms)]
    other = [{"instruction": f"Which river is {i}?", "output": "x"} for i in range(100)]
    settings = SplitSettings(near_duplicates=None)  # "is 17" and "is 18" are near ones too
    summary = split([written(tmp_path, *values, name="p")], [written(tmp_path, *other, name="i")], settings, tmp_path / "out")
    places: dict[str, set[tuple[str, str]]] = {}
    for key, records in read(tmp_path / "out").items():
        for record in records:
            number = "".join(filter(str.isdigit, prompt(record)))
            places.setdefault(number, set()).add(key)
    for keys in places.values():
        assert len({side for _, side in keys}) == 1  # also between instructions and preferences
        assert len({step for step, _ in keys} - {"sft"}) <= 1
    # of the four forms PPO needs one
    assert summary["sources"]["p"]["left_out"]["duplicate"] == 3 * (summary["splits"]["ppo"]["train"] + summary["splits"]["ppo"]["eval"])


def test_prompts_of_other_symbols_or_another_system_prompt_are_no_copies(tmp_path: Path) -> None:
    texts = ["What is 2 + 3?", "What is 2 - 3?", "What is 2.3?", "What is 23?", "Explain C", "Explain C++", "Explain C#", "x < y？", "x > y"]
    values: list[Any] = [{"prompt": text, "chosen": "a", "rejected": "b"} for text in (*texts, "what is 2+3", "x<y。")]
    values += [{"prompt": "Who are you?", "system": system, "chosen": "a", "rejected": "b"} for system in ("A poet.", "A cook.", "a cook")]
    summary = split([written(tmp_path, *values)], [], SplitSettings(shares="0,0,1", eval_share=0), tmp_path / "out")
    assert [prompt(record) for record in read(tmp_path / "out")["ppo", "train"]] == [*texts, "Who are you?", "Who are you?"]
    assert summary["sources"]["data.jsonl"]["left_out"] == {"duplicate": 3}


WORDS = [f"{a}{b}{c}" for a in ("ker", "mol", "tan", "vi", "sor") for b in ("ba", "fe", "lu", "ri") for c in ("n", "dge", "st", "pp", "mk")]


def near(rng: random.Random, words: int) -> tuple[str, str]:
    """A prompt, and the same with its last word another one."""
    said = rng.choices(WORDS, k=words)
    return " ".join(said), " ".join([*said[:-1], rng.choice(WORDS)])


def test_near_duplicates_stand_on_one_side_whatever_their_sources_and_steps(tmp_path: Path) -> None:
    rng = random.Random(5)
    pairs = [near(rng, 14) for _ in range(300)]  # 13 of 14 words alike: a Jaccard similarity of 0.85 and more
    first = written(tmp_path, *({"prompt": one, "chosen": "a", "rejected": "b"} for one, _ in pairs), name="p")
    second = written(tmp_path, *({"instruction": other, "output": "c"} for _, other in pairs), name="i")

    def sides(**settings: Any) -> dict[str, set[tuple[str, str]]]:
        folder = tmp_path / str(settings)
        split([first], [second], SplitSettings(eval_share=0.3, **settings), folder)
        found: dict[str, set[tuple[str, str]]] = {}
        for key, records in read(folder).items():
            for record in records:
                found.setdefault(prompt(record), set()).add(key)
        return found

    kept, drawn = sides(), sides(near_duplicates=None)
    assert [one for one, other in pairs if {side for _, side in kept[one]} != {side for _, side in kept[other]}] == []
    assert sum({side for _, side in drawn[one]} != {side for _, side in drawn[other]} for one, other in pairs if one != other) > 50
    for one, other in pairs:  # the step never changes, and the side is that of one of the two
        assert {step for step, _ in kept[one]} == {step for step, _ in drawn[one]}
        assert {side for _, side in kept[one]} <= {side for text in (one, other) for _, side in drawn[text]}
    share = sum({side for _, side in kept[one]} == {"eval"} for one, _ in pairs) / 300
    assert 0.2 < share < 0.4  # the draw stays fair


def test_a_growing_source_moves_a_prompt_only_beside_a_new_near_duplicate(tmp_path: Path) -> None:
    rng = random.Random(6)
    pairs = [near(rng, 14) for _ in range(200)]
    values = [[{"prompt": text, "chosen": "a", "rejected": "b"} for text in column] for column in zip(*pairs, strict=True)]
    split([written(tmp_path, *values[0], name="small")], [], SplitSettings(eval_share=0.3), tmp_path / "a")
    split([written(tmp_path, *values[1][:100], *values[0], name="grown")], [], SplitSettings(eval_share=0.3), tmp_path / "b")
    before, after = ({prompt(record): key for key, records in read(tmp_path / name).items() for record in records} for name in "ab")
    moved = [text for text in before if before[text] != after[text]]
    assert all(before[text][0] == after[text][0] for text in before)  # the step never
    assert set(moved) <= {one for one, _ in pairs[:100]}
    assert 0 < len(moved) < 50


def test_chinese_and_tiny_prompts_have_near_duplicates_too(tmp_path: Path) -> None:
    texts = {"a": "请用三句话介绍一下灰泉镇的历史、河流和当地的手工艺。", "b": "请用三句话介绍一下灰泉镇的历史、河流和当地的手工业。", "c": "请写一首关于秋天的诗", "d": "好", "e": "?!", "f": "好"}
    assert leaders(((name, text) for name, text in texts.items()), 0.8, tmp_path / "w") == {"b": "a", "f": "d"}
    assert leaders([], 0.8, tmp_path / "x") == {}


def test_a_template_of_thousands_that_are_not_alike_is_not_compared_all_with_all(tmp_path: Path) -> None:
    rng = random.Random(7)
    template = "Classify the sentiment of the following customer review as positive, negative or neutral, and answer with one word only, without any explanation: "
    texts = {f"{i:04}": template + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=23)) for i in range(1500)}
    texts["twin"] = texts["0700"][:-1] + "!"
    begun = time.process_time()
    assert leaders(texts.items(), 0.8, tmp_path / "w") == {"twin": "0700"}
    assert time.process_time() - begun < 7  # 1.5 s; every pair of a group: 17 s, and 40 days for a hundred times as many


@given(st.lists(st.text("ab 好", min_size=1, max_size=30), min_size=2, max_size=25), st.sampled_from([0.5, 0.8, 1.0]))
def test_near_duplicates_in_one_group_are_those_of_all_pairs(tmp_path_factory: pytest.TempPathFactory, texts: list[str], jaccard: float) -> None:
    """By plain sets: who is near to no leader before it leads; who is near to some follows the first."""
    said, following, leading = pa.chunked_array([texts]), [], list[int]()
    sets = [{text[at : at + 5] for at in range(max(1, len(text) - 4))} for text in texts]
    for row, own in enumerate(sets):
        near = [leader for leader in leading if len(own & sets[leader]) >= jaccard * len(own | sets[leader])]
        if near:
            following.append((near[0], row))
        else:
            leading.append(row)
    assert list(_led(list(range(len(texts))), said, jaccard)) == following


def test_memory_does_not_grow_with_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.instructions.near_duplicates._BATCH", 100)
    peaks = []
    for count in (100, 500):
        path = written(tmp_path, *({"prompt": unlike(i), "chosen": "good " * 2000, "rejected": "bad"} for i in range(count)), name=str(count))
        tracemalloc.start()
        split([path], [], SplitSettings(), tmp_path / f"out{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_000_000  # of 4 MB more of records


def test_long_prompts_are_left_out_of_ppo_alone(tmp_path: Path) -> None:
    values = [preference(i) for i in range(100)] + [{"prompt": "好" * 60 + unlike(i), "chosen": "a", "rejected": "b"} for i in range(100)]
    summary = split([written(tmp_path, *values, name="p")], [], SplitSettings(max_prompt_words=50), tmp_path / "out")
    found = read(tmp_path / "out")
    assert not any("好" in prompt(record) for side in SIDES for record in found["ppo", side])
    assert any("好" in prompt(record) for record in found["reward", "train"])
    assert summary["sources"]["p"]["left_out"]["too_long"] > 20


def test_the_reference_reaches_the_ppo_prompts(tmp_path: Path) -> None:
    values = [{"instruction": f"Q {i}?", "responses_best_first": ["x", "y"], "reference": f"r {i}"} for i in range(200)]
    split([written(tmp_path, *values)], [], SplitSettings(), tmp_path / "out")
    for record in read(tmp_path / "out")["ppo", "train"]:
        assert record["labels"]["reference"] == "r " + "".join(filter(str.isdigit, prompt(record)))


def test_shares_are_normalised_and_a_share_of_nothing_gives_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, *(preference(i) for i in range(300)))
    split([path], [], SplitSettings(shares="2,4,4"), tmp_path / "a")
    split([path], [], SplitSettings(shares="0.1,0.2,0.2"), tmp_path / "b")
    assert read(tmp_path / "a") == read(tmp_path / "b")
    summary = split([path], [], SplitSettings(shares="0,1,0", eval_share=0), tmp_path / "c")
    assert summary["splits"] == {"sft": {"train": 0, "eval": 0}, "reward": {"train": 300, "eval": 0}, "ppo": {"train": 0, "eval": 0}}


def test_a_changed_share_moves_no_prompt_between_train_and_eval(tmp_path: Path) -> None:
    path = written(tmp_path, *(preference(i) for i in range(300)))
    sides = []
    for shares in ("2,4,4", "1,1,1"):
        split([path], [], SplitSettings(shares=shares), tmp_path / shares)
        sides.append({prompt(r): side for (_, side), records in read(tmp_path / shares).items() for r in records})
    assert sides[0] == sides[1]


def test_another_seed_deals_anew(tmp_path: Path) -> None:
    path = written(tmp_path, *(preference(i) for i in range(300)))
    split([path], [], SplitSettings(), tmp_path / "a")
    split([path], [], SplitSettings(seed=2), tmp_path / "b")
    assert read(tmp_path / "a") != read(tmp_path / "b")


def test_bad_lines_and_duplicates_are_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    first = written(tmp_path, *(preference(i) for i in range(200)), preference(7), "{broken", name="p.jsonl")
    second = written(tmp_path / "more", *(preference(i) for i in range(200, 300)), {"prompt": "x"}, name="p.jsonl")
    prompts = written(tmp_path, {"prompt": "Only a prompt?"}, instruction(1), name="i.jsonl")
    summary = split([first, second], [prompts], SplitSettings(), tmp_path / "out")
    mine, other = f"{tmp_path.name}/p.jsonl", "more/p.jsonl"
    assert list(summary["sources"]) == [mine, other, "i.jsonl"]
    assert summary["sources"][mine]["left_out"] == {"duplicate": 1}
    assert summary["sources"]["i.jsonl"]["left_out"] == {"no_answer": 1}
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(line["source"], line["line"], line["reason"]) for line in rejected] == [(mine, 202, "broken_json"), (other, 101, "wrong_kind")]
    for source in summary["sources"].values():
        dealt = sum(sum(sides.values()) for sides in source["steps"].values())
        assert source["records"] == dealt + sum(source["left_out"].values())


def test_questions_lie_beside_the_splits_and_their_bad_lines_with_the_others(tmp_path: Path) -> None:
    source = written(tmp_path, *(preference(i) for i in range(200)), "{broken", name="p.jsonl")
    split([source], [], SplitSettings(), tmp_path / "out")
    questions = written(tmp_path, {"question": "2 + 2?", "answer": 4}, {"question": ""}, {"prompt": "a", "chosen": "b", "rejected": "c"}, name="q.jsonl")
    assert bring_questions(questions, tmp_path / "out") == {"records": 1, "rejected": {"empty_turn": 1, "wrong_kind": 1}}
    assert "2 + 2?" in (tmp_path / "out" / "questions.jsonl").read_text()
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(line["source"], line["line"]) for line in rejected] == [("p.jsonl", 201), ("q.jsonl", 2), ("q.jsonl", 3)]


@pytest.mark.parametrize(
    ("preferences", "instructions", "settings", "message"),
    [
        ([], [], {}, r"p.jsonl gives nothing to train on: it is empty"),
        (["{"], [], {}, r"p.jsonl gives nothing to train on: 1 broken_json"),
        ([preference(1)], [], {}, r"is empty: of the 1 records of p.jsonl its share is .*shares 2,4,4, eval_share 0.1"),
        ([preference(i) for i in range(200)], [], {"eval_share": 0.000001}, r"sft/eval is empty: of the 200 records"),
        ([preference(i) for i in range(200)], [{"prompt": "x?"}], {}, r"i.jsonl gives nothing to train on: 1 no_answer"),
    ],
)
def test_an_empty_split_is_an_error_that_explains_itself(
    tmp_path: Path, preferences: list[Any], instructions: list[Any], settings: dict[str, Any], message: str
) -> None:
    paths = [written(tmp_path, *instructions, name="i.jsonl")] if instructions else []
    with pytest.raises(ValueError, match=message):
        split([written(tmp_path, *preferences, name="p.jsonl")], paths, SplitSettings(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_instructions_alone_cannot_fill_the_other_steps(tmp_path: Path) -> None:
    path = written(tmp_path, *(instruction(i) for i in range(200)))
    with pytest.raises(ValueError, match="the reward split is empty: it is dealt from preferences, and there is no such source"):
        split([], [path], SplitSettings(), tmp_path / "out")
    summary = split([], [path], SplitSettings(shares="1,0,0"), tmp_path / "out")
    assert sum(summary["splits"]["sft"].values()) == 200


@pytest.mark.parametrize("shares", ["0,0,0", "1,2", "a,b,c", "-1,1,1", "1,2,3,4", ""])
def test_shares_that_mean_nothing_are_refused(shares: str) -> None:
    with pytest.raises(ValidationError):
        SplitSettings(shares=shares)


def test_prompt_keys() -> None:
    def key(*said: str) -> str:
        return prompt_key([Turn(role="user", text=text) for text in said])

    assert key("Ｗho is it ?") == key("who's it?".replace("'s", " is")) == "whoisit"
    assert key("哪条河？") == key("哪条河")
    assert key("?!") != key("...")
    assert key("ab", "c") != key("a", "bc")


@given(st.text(min_size=1), st.tuples(*[st.integers(0, 5)] * 3).filter(any), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 3))
def test_a_place_depends_on_the_key_alone(key: str, shares: tuple[int, int, int], eval_share: float, seed: int) -> None:
    key = key.encode("utf-8", "replace").decode()
    step, side = place(key, shares, eval_share, seed)
    assert shares[STEPS.index(step)] > 0
    assert side == "train" or eval_share > 0
    assert (step, side) == place(key, tuple(share * 10 for share in shares), eval_share, seed)


def test_the_dealing_is_the_same_for_ever() -> None:
    # a change here deals everyone's data anew and needs a new stage version
    assert [place(f"prompt {i}", (2, 4, 4), 0.1, 1) for i in range(4)] == [
        ("sft", "train"), ("ppo", "train"), ("sft", "eval"), ("ppo", "eval"),
    ]  # fmt: skip
