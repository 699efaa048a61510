"""The instruction part through Prefect, on the samples and recorded models: domain, sampled, judged, and what the splits hold of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows import instructions
from flows.recipe_file import load
from tasks.stage import Made, Run
from tests.conftest import ROOT
from tests.data.instructions.test_formats import written
from tests.data.instructions.test_self_instruct import block, lines

TASK = "Compare the bridges of two towns that you know, in three sentences, and say which one is older."
PREFERENCES = ROOT / "data" / "samples" / "preferences.jsonl"
PROMPTS = ["Which river is the longest?", "哪座桥最老？"]


def recorded(folder: Path) -> list[str]:
    """Settings that let recorded models speak: a teacher of the domain, and one that gives three answers to each prompt."""
    folder.mkdir(exist_ok=True)
    said = {
        "domain": [block(1, TASK, "The old bridge is older.") + block(2, "Draw it.", "I cannot.")],
        "sampled": ["Short.", "A longer answer.", "An even longer answer.", "旧桥。", "山下的旧桥。", "旧桥"],
    }
    files = {name: written(folder, *({"text": text} for text in texts), name=f"{name}.jsonl") for name, texts in said.items()}
    few = folder / "preferences.jsonl"
    few.write_text("".join(PREFERENCES.read_text().splitlines(keepends=True)[:150]))
    prompts = written(folder, *({"prompt": text} for text in PROMPTS), name="prompts.jsonl")
    return [
        "domain_questions=data/samples/questions.jsonl", f"domain.completions={files['domain']}", "domain.topics=4",
        "domain.answer_questions=false", "self_instruct.max_calls=2", f"preferences={few}", f"judged_prompts={prompts}", f"sampled.completions={files['sampled']}", "sampled.responses=3",
    ]  # fmt: skip


def small_model(folder: Path, kind: Any) -> Path:
    """A model of random weights with a tokenizer of the toy world."""
    from rlhf_core.dataset.vocabulary import train_tokenizer
    from rlhf_core.settings import TokenizerSettings
    from tests.rlhf_core import toy
    from tests.rlhf_core.test_answer_scores import model

    toy.write_corpus(folder / "corpus")
    train_tokenizer(sorted((folder / "corpus").rglob("*.parquet")), TokenizerSettings(vocab_size=400), folder / "tokenizer")
    return model(folder, folder / "model", kind)


def go(settings: list[str], store: Path, until: str | None = None) -> Mapping[str, Made]:
    made: Mapping[str, Made] = instructions.pipeline(load("tiny", settings), Run(store=str(store)), {}, until)
    return made


def read(store: Path, made: Made, name: str) -> list[dict[str, Any]]:
    return lines(Path(Run(store=str(store)).local(made.artifact)) / name)


@pytest.mark.usefixtures("prefect_server")
def test_a_domain_and_judged_answers_join_the_splits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    # of three answers the judge likes the first best, the last least: A in one order, B in the other
    verdicts = written(tmp_path, *({"text": text} for text in "ABABAB" * 2), name="verdicts.jsonl")
    settings, store = [*recorded(tmp_path), f"judged.completions={verdicts}"], tmp_path / "store"
    made = go(settings, store)
    assert list(made) == ["instructions", "domain", "sampled", "judged", "splits"]

    assert [record["turns"][0]["text"] for record in read(store, made["domain"], "conversations.jsonl")] == [TASK]
    assert made["domain"].counts == {"documents_in": 2, "kept": 1, "dropped": {"too_short": 1}}
    ranked = {record["turns"][0]["text"]: record["responses"] for record in read(store, made["judged"], "preferences.jsonl")}
    assert ranked == {PROMPTS[0]: ["Short.", "A longer answer.", "An even longer answer."], PROMPTS[1]: ["旧桥。", "山下的旧桥。"]}
    for name, calls in {"instructions": 2, "domain": 1, "sampled": 6, "judged": 8}.items():
        assert made[name].metrics["teacher_calls"] == calls

    dealt = [record for step in ("sft", "reward", "ppo") for side in ("train", "eval") for record in read(store, made["splits"], f"{step}/{side}.jsonl")]
    assert {TASK, *PROMPTS} <= {record["turns"][0]["text"] for record in dealt}
    again = go([*settings, "judged.min_margin=0.6"], store, "judged")  # another judgement asks the sampled model nothing
    assert {name: one.reused for name, one in again.items()} == {"instructions": True, "domain": True, "sampled": True, "judged": False}
    assert [record["labels"]["margin"] for record in read(store, again["judged"], "preferences.jsonl")] == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("prefect_server")
def test_a_reward_model_ranks_as_a_job(tmp_path: Path) -> None:
    """The scores are those that the job's model gives, and they alone decide the order."""
    from transformers import LlamaForSequenceClassification

    from tests.rlhf_core.test_answer_scores import by_hand

    folder, store = small_model(tmp_path, LlamaForSequenceClassification), tmp_path / "store"
    made = go([*recorded(tmp_path / "said"), f"answer_scoring.model={folder}"], store, until="judged")
    assert list(made) == ["instructions", "domain", "sampled", "answer_scores", "judged"]
    assert made["answer_scores"].metrics == {"records": 2, "answers": 5, "too_long_answers": 0}
    expected = {}
    for record in read(store, made["sampled"], "samples.jsonl"):
        by_score = {answer: by_hand(folder, record, answer) for answer in record["responses"]}
        expected[record["turns"][0]["text"]] = sorted(by_score, key=lambda answer, of=by_score: -of[answer])
    assert {record["turns"][0]["text"]: record["responses"] for record in read(store, made["judged"], "preferences.jsonl")} == expected
    log = Path(Run(store=str(store)).local(made["answer_scores"].artifact)) / "scores.jsonl"
    assert all(isinstance(score, float) for line in log.read_text().splitlines() for score in json.loads(line)["scores"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("prefect_server")
def test_a_local_model_answers_as_a_job(tmp_path: Path) -> None:
    """Several answers to each prompt by a job; what the judge ranks are those, and another judgement draws none anew."""
    from transformers import LlamaForCausalLM

    folder, store = small_model(tmp_path, LlamaForCausalLM), tmp_path / "store"
    recipe = [one for one in recorded(tmp_path / "said") if not one.startswith("sampled.completions")]
    prompts = written(tmp_path, *({"prompt": text} for text in [*PROMPTS, PROMPTS[0]]), name="prompts.jsonl")
    verdicts = written(tmp_path, *({"text": text} for text in "AB" * 200), name="verdicts.jsonl")
    recipe += [f"judged_prompts={prompts}", f"answer_sampling.model={folder}", "sampled.responses=16", "sampled.max_tokens=24", f"judged.completions={verdicts}"]
    made = go(recipe, store, until="judged")
    assert list(made) == ["instructions", "domain", "answers", "sampled", "judged"]
    assert (made["answers"].metrics["prompts"], made["answers"].metrics["answers"]) == (2, 32)
    said = read(store, made["answers"], "completions.jsonl")
    ended = [{one["text"] for one in said[16 * place : 16 * place + 16] if one["finish_reason"] == "stop" and one["text"]} for place in (0, 1)]
    sampled = {record["turns"][0]["text"]: record["responses"] for record in read(store, made["sampled"], "samples.jsonl")}
    assert sampled and all(set(answers) <= ended[PROMPTS.index(prompt)] for prompt, answers in sampled.items())
    again = go([*recipe, "judged.min_margin=0.01"], store, until="judged")
    assert {name: one.reused for name, one in again.items() if not one.reused} == {"judged": False}
    other = go([*recipe, "answer_sampling.seed=2"], store, until="answers")
    assert not other["answers"].reused and read(store, other["answers"], "completions.jsonl") != said
