"""Everything that cannot be measured, in one run: each is counted, and stands as a line at the report's top; none is a zero."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from data.evaluation.answers import pairs, read_answers
from data.evaluation.judges import judge
from data.evaluation.settings import JudgementSettings
from data.instructions.teacher import Completion, Prompt, TeacherError
from rlhf_core.settings import PpoStage, PretrainStage, RewardStage, SftStage
from tasks.judging import summarise
from tasks.reporting.figures import gather, json_lines
from tasks.reporting.findings import warnings
from tasks.reporting.page import render
from tasks.reporting.way import way
from tasks.stage import Made
from tests.rlhf_core.evaluation.test_job import run, without_template
from tests.rlhf_core.evaluation.test_knowledge import llama
from tests.rlhf_core.toy import Chain, write_lines
from tests.tasks.reporting.test_report import made, stage  # noqa: F401  # `made` is a fixture

STAGES = [PretrainStage(name="pretrain"), SftStage(name="sft", init="pretrain"), RewardStage(name="reward", init="sft"), PpoStage(name="ppo", init="sft", reward_model="reward")]
LINES = [
    "answers, bare: the model has no chat template: it was given the bare prompts to go on from.",
    "knowledge of toy: rows left out: missing_option (1).",
    "knowledge of toy: rows left out: bad_key (1).",
    "knowledge of toy, sft: questions too long for the model's context, taken as wrong (1).",
    "knowledge of toy, alike: questions whose letters the tokenizer writes alike (2).",
    "knowledge of toy, broken: questions whose letters' probabilities are no numbers (broken weights?), taken as wrong (1).",
    "language model, broken: texts whose probability is no number (broken weights?), left out (",
    "knowledge of nothing: no question that can be asked: it was not measured.",
    "answers, sft: questions too long for the model's context (1).",
    "exact match: questions without a right answer, left out (1).",
    "answers: ppo/eval.jsonl has no held-out prompts: answers were not compared.",
    "reward model: reward/eval.jsonl has no held-out rankings: the reward model was not measured.",
    "reward model, reward: no held-out pair: its accuracy was not measured.",
    "language model, alike: texts that its tokenizer does not give back: their bits are of less (",
    "judge teacher, ppo, tone: 2 of 2 comparisons failed (1 unreadable, 1 failed); no win rate.",
]


class Babbling:
    """Talks nonsense, and then no more."""

    def complete(self, prompt: Prompt) -> Completion:
        if prompt.call > 1:
            raise TeacherError("http://judge: did not answer in 60 s")
        return Completion("What a lovely day!")


def all_words_alike(folder: Path) -> Path:
    """A model whose tokenizer knows no word."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    llama(2).save_pretrained(folder)
    return folder


def broken_weights(chain: Chain, folder: Path) -> Path:
    """The SFT model, of whose weights one is no number."""
    shutil.copytree(chain.world / "sft" / "model", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def judgement(answers: Path, folder: Path) -> dict[str, Any]:
    settings = JudgementSettings(judges=["teacher"], criteria=["tone"], sets=["questions"], completions="x", teacher_concurrency=1)
    found = [pair for pair in pairs(read_answers(answers), "sft", settings) if pair.model.model == "ppo"]
    judge([pair for pair in found if pair.is_answered], settings, Babbling(), folder, folder)
    return {"baseline": "sft", "pairs": len(found), "judges": summarise(json_lines(folder / "verdicts.jsonl"))}


def test_each_is_a_line_of_the_report(chain: Chain, tmp_path: Path, made: dict[str, Made]) -> None:  # noqa: F811
    for part in ("ppo", "reward"):
        write_lines(tmp_path / "splits" / part / "eval.jsonl", [])
    asked = [("What is the capital of Ald?", "Orsk"), ("What is the capital of Bex?", "Tarn"), ("word " * 200, "Orsk"), ("What?", "")]
    write_lines(tmp_path / "questions.jsonl", [{"prompt": prompt, "answer": answer} for prompt, answer in asked])
    rows = {"toy": ["Which?,Orsk,Tarn,Velm,Ruk,A", "Where?,1,2,3,,B", f"{'very ' * 200}long?,1,2,3,4,C", "Who?,1,2,3,4,E"], "nothing": ["Who?,1,2,3,4,F"]}
    for name, own in rows.items():
        (tmp_path / name / "test").mkdir(parents=True)
        (tmp_path / name / "test" / "cities_test.csv").write_text("\n".join(own) + "\n", encoding="utf-8")
    sets = [{"name": name, "layout": "mmlu", "folder": str(tmp_path / name), "shots": 0} for name in rows]
    evaluation, folder = run(
        chain, "bad_input", {"knowledge": sets}, splits=tmp_path / "splits", questions=tmp_path / "questions.jsonl", knowledge__toy=tmp_path / "toy",
        knowledge__nothing=tmp_path / "nothing", other_of_bare=without_template(chain, tmp_path / "bare"), other_of_alike=all_words_alike(tmp_path / "alike"),
        other_of_broken=broken_weights(chain, tmp_path / "broken"),
    )  # fmt: skip
    json.dumps(evaluation, allow_nan=False)  # what is no number is no figure either
    made |= {name: stage(name) for name in ("sft", "reward")} | {"splits": stage("splits"), "instructions": stage("instructions")}
    figures = gather("bad", STAGES, made, evaluation, judgement(folder / "answers.jsonl", tmp_path)) | {"way": way(STAGES, made)}
    figures |= {"warnings": warnings(figures, STAGES), "curves": {}, "samples": [], "settings": {}, "stages": []}
    page = html.unescape(render(figures, {}))
    first = page[page.index("What to look at first") : page.index('<div class="figures">')]
    for line in LINES:
        assert line in first, (line, [one for one in figures["warnings"] if one.startswith(line[:10])])
    assert not {"reward", "win_rate_teacher_tone"} & figures["ppo"].keys() and "accuracy" not in figures["reward"]
    assert figures["sft"]["knowledge"]["nothing"]["accuracy"] is None and "distinct_2" not in figures["sft"].get("sampled", {})
