"""The evaluation job on the toy world: what it leaves, that its files agree, and that nothing missing is passed over in silence."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.dataset.corpus import corpus_files, held_out, read_documents
from rlhf_core.evaluate import evaluate
from rlhf_core.evaluation.candidate import load_candidate
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs
from rlhf_core.settings import Job
from tests.rlhf_core.toy import Chain, write_lines

KINDS = ("pretrain", "sft", "reward", "ppo")


def run(chain: Chain, name: str, stage: dict[str, Any], **inputs: Path | str | None) -> tuple[dict[str, Any], Path]:
    world = chain.world
    if not (world / "ppo" / "model").exists():
        chain.run("ppo", "ppo", steps=3)
    roles: dict[str, Any] = {f"{kind}:{kind}": world / kind for kind in KINDS}
    roles |= {"splits": world / "splits", "questions": world / "splits" / "questions.jsonl", "corpus": world / "corpus"}
    roles |= {role.replace("__", "/").replace("_of_", ":"): path for role, path in inputs.items()}
    job = {
        "stage": {"max_new_tokens": 12, "samples_a_prompt": 4, "window": 64, "launch": {"threads": 1}} | stage,
        "inputs": {role: str(path) for role, path in roles.items() if path is not None},
        "output": str(world / name),
        "work": str(world),
    }
    evaluate(Job.model_validate(job))
    return json.loads((world / name / "evaluation.json").read_text()), world / name


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def knowledge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "test").mkdir()
    rows = ["Which?,Orsk,Tarn,Velm,Ruk,A", "Where?,1,2,3,,B", f"{'very ' * 200}long?,1,2,3,4,C"]
    (folder / "test" / "cities_test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def evaluated(chain: Chain, knowledge_folder: Path) -> tuple[dict[str, Any], Path]:
    stage = {"knowledge": [{"name": "toy", "layout": "mmlu", "folder": str(knowledge_folder), "shots": 1}]}
    return run(chain, "evaluation", stage, knowledge__toy=knowledge_folder)


def test_every_measure_of_every_model(evaluated: tuple[dict[str, Any], Path]) -> None:
    report, folder = evaluated
    assert list(report["models"]) == ["pretrain", "sft", "ppo"]
    for name, figures in report["models"].items():
        assert {"language_model", "knowledge", "exact_match", "exact_match_interval", "distinct_1", "distinct_2", "reward"} <= set(figures)
        assert {"self_bleu", "length", "exact_match", "reward"} <= set(figures["sampled"])
        assert ("kl" in figures) == (name == "ppo")
    assert {"reward_before", "reward_after", "kl", "exact_match"} <= set(report["ppo"])
    assert report["sft"]["exact_match"] == report["models"]["sft"]["exact_match"]
    assert report["reward_model"]["accuracy"] > 0.7
    points = report["drift"]["best_of_n"]["points"]
    assert [point["n"] for point in points] == [1, 2, 4]
    rewards = [point["reward"] for point in points]
    assert rewards == sorted(rewards) and rewards[0] == pytest.approx(report["models"]["sft"]["sampled"]["reward"], abs=1e-4)
    assert report["drift"]["stages"]["ppo"]["training"][0]["step"] == 1
    samples = lines(folder / "samples.jsonl")
    assert len(samples) == 8 and set(samples[0]["answers"]) == {"pretrain", "sft", "ppo"}
    assert lines(folder / "metrics.jsonl")[-1]["step"] == 4


def test_the_figures_are_those_of_the_single_items(evaluated: tuple[dict[str, Any], Path]) -> None:
    report, folder = evaluated
    answers = lines(folder / "answers.jsonl")
    assert len(answers) == 3 * (report["questions"] + report["prompts"])
    own = [line for line in answers if line["model"] == "ppo" and line["set"] == "prompts"]
    assert sum(line["reward"] for line in own) / len(own) == pytest.approx(report["models"]["ppo"]["reward"], abs=1e-4)
    assert sum(line["length"] for line in own) / len(own) == pytest.approx(report["models"]["ppo"]["length"], abs=1e-4)
    assert all(len(line["sampled"]) == 4 for line in own)
    pairs = lines(folder / "pairs.jsonl")
    assert sum(line["right"] for line in pairs) / len(pairs) == pytest.approx(report["reward_model"]["accuracy"], abs=1e-6)
    assert {line["source"] for line in pairs} == {"toy"}
    asked = lines(folder / "knowledge.jsonl")
    assert len(asked) == 3 * 2  # the question without its fourth option is in none
    right = [line["right"] for line in asked if line["model"] == "sft"]
    assert report["models"]["sft"]["knowledge"]["toy"]["accuracy"] == sum(right) / 2


def test_held_out_perplexity_is_pretrainings_own(evaluated: tuple[dict[str, Any], Path], chain: Chain) -> None:
    """Toy documents are shorter than the window, so the only difference is the end token, which pretraining predicts too."""
    report, _ = evaluated
    figures = report["models"]["pretrain"]["language_model"]["en"]
    candidate = load_candidate(Inputs({"pretrain:p": str(chain.world / "pretrain")}), "pretrain:p", torch.device("cpu"))
    files = corpus_files(chain.world / "corpus")
    documents = [d for file in files for d in read_documents(file, candidate.chat) if held_out(d.id, 0.03)]
    assert len(documents) == figures["documents"] > 3
    total = tokens = 0.0
    for document in documents:
        ids = torch.tensor([[candidate.chat.end_id, *document.ids.tolist()]])
        with torch.no_grad():
            logprobs = candidate.policy.model(ids).logits[0, :-1].log_softmax(-1)
        total -= float(logprobs.gather(1, ids[0, 1:, None]).sum())
        tokens += len(document.ids)
    assert figures["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert figures["bits_per_byte"] == pytest.approx(total / math.log(2) / sum(d.size for d in documents), rel=1e-4)
    assert figures["tokens"] == tokens


def test_what_could_not_be_measured_is_said(evaluated: tuple[dict[str, Any], Path], chain: Chain, tmp_path: Path) -> None:
    said = {(one["measure"], one["model"], one["count"]) for one in evaluated[0]["problems"]}
    assert ("knowledge of toy", None, 1) in said  # no fourth option, and no examples
    assert ("knowledge of toy", "sft", 1) in said  # too long
    for part in ("ppo", "reward"):
        write_lines(tmp_path / "splits" / part / "eval.jsonl", [])
    write_lines(tmp_path / "questions.jsonl", [{"prompt": "What?", "answer": ""}])
    report, _ = run(chain, "empty", {"held_out_share": 1e-9}, splits=tmp_path / "splits", questions=tmp_path / "questions.jsonl")
    texts = " | ".join(one["text"] for one in report["problems"])
    for words in ("without a right answer", "no question", "no held-out prompts", "no held-out rankings", "no document is held out", "no held-out pair"):
        assert words in texts
    assert report["reward_model"]["accuracy"] is None
    assert "exact_match" not in report["models"]["sft"] and "reward" not in report["models"]["sft"]


def without_template(chain: Chain, folder: Path) -> Path:
    """The base model as others publish theirs: its tokenizer knows no chat."""
    shutil.copytree(chain.world / "pretrain" / "model", folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_model_without_a_chat_template_is_asked_plainly_and_that_is_said(chain: Chain, tmp_path: Path) -> None:
    report, folder = run(chain, "bare", {"max_prompts": 2}, other_of_bare=without_template(chain, tmp_path / "bare"))
    assert [one["model"] for one in report["problems"] if "no chat template" in one["text"]] == ["bare"]
    answers = lines(folder / "answers.jsonl")
    texts = {model: [line["text"] for line in answers if line["model"] == model] for model in ("pretrain", "bare")}
    assert texts["bare"] == texts["pretrain"]


def test_prompts_longer_than_the_context_are_counted(chain: Chain, tmp_path: Path) -> None:
    write_lines(tmp_path / "questions.jsonl", [{"prompt": "word " * 200, "answer": "Orsk"}, {"prompt": "What is the capital of Ald?", "answer": "Orsk"}])
    report, folder = run(chain, "long", {"sampled_prompts": 0}, questions=tmp_path / "questions.jsonl")
    assert ("answers", "sft", 1) in {(one["measure"], one["model"], one["count"]) for one in report["problems"]}
    assert lines(folder / "answers.jsonl")[0]["text"] is None
    assert [line["id"] for line in lines(folder / "answers.jsonl") if line["set"] == "questions"][:2] == ["line 1", "line 2"]  # they have none
    assert report["models"]["sft"]["exact_match"] in (0.0, 0.5)


def test_an_answer_longer_than_the_context_is_what_is_said(chain: Chain) -> None:
    """Nothing can be drawn, so there is no KL, and it is not the vocabulary's fault."""
    report, _ = run(chain, "full", {"max_new_tokens": 128, "max_prompts": 2, "sampled_prompts": 2})
    texts = {(one["measure"], one["model"]): one["text"] for one in report["problems"]}
    assert texts["kl", "ppo"] == "no prompt leaves room for an answer" and "too long for the model's context" in texts["answers", "ppo"]
    assert "kl" not in report["models"]["ppo"] and "reward" not in report["models"]["ppo"]


def test_models_are_measured_in_half_the_memory_where_it_is_asked_for(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_core.evaluation import job

    asked: list[Any] = []

    def watched(plain: Any) -> Any:
        def load(*given: Any) -> Any:
            asked.append(given[-1])
            return plain(*given)

        return load

    for name in ("load_candidate", "load_scorer"):
        monkeypatch.setattr(job, name, watched(getattr(job, name)))
    few = {"max_prompts": 4, "max_documents": 8, "sampled_prompts": 2}
    fine, coarse = (run(chain, f"in_{precision}", few | {"precision": precision})[0]["models"] for precision in ("fp32", "bf16"))
    assert asked == ["fp32"] * 4 + ["bf16"] * 4  # three that answer and the reward model
    for name, figures in fine.items():
        assert coarse[name]["language_model"]["en"]["perplexity"] == pytest.approx(figures["language_model"]["en"]["perplexity"], rel=0.05)
        assert coarse[name]["reward"] == pytest.approx(figures["reward"], abs=0.5)


def test_a_job_without_a_model_is_refused(chain: Chain) -> None:
    with pytest.raises(BadInput, match="no model to evaluate"):
        evaluate(Job.model_validate({"stage": {}, "inputs": {}, "output": str(chain.world / "none"), "work": str(chain.world)}))
