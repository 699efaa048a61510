"""A store with evaluations written by hand, for the tests of what comes after them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from data.evaluation.settings import JudgementSettings
from tasks.judging import judge_answers
from tasks.stage import Made, Run
from tasks.store.artifacts import Artifact, Draft, Files, Result, Store

ROLES = ("pretrain:pretrain", "sft:sft", "reward:reward_model", "ppo:ppo")


class Numbered(BaseModel):
    number: int


def answers(right: Mapping[str, int], questions: int = 40, prompts: int = 30) -> list[dict[str, Any]]:
    """`right` says how many of the questions each model answers right, the first ones; rewards grow from model to model. Texts hold
    line ends of Unicode, which are none of JSON lines."""
    lines = []
    for place, (model, known) in enumerate(right.items()):
        for number in range(questions):
            text = f"Silverrun {number}." if number < known else "I do not know."
            lines.append(line(f"q{number}", "questions", model, text, lang="en" if number % 2 else "zh", reference=f"Silverrun {number}"))
        for number in range(prompts):
            reward = place + (number % 7) / 4
            lines.append(line(f"p{number}", "prompts", model, f"{model} says\u2028{number}\x85", reward=reward, finished=number % 5 > 0, repeating=number % 6 == 0, length=4 + place))
    return lines


def line(id_: str, name: str, model: str, text: str, **given: Any) -> dict[str, Any]:
    plain = {"lang": "en", "prompt": f"{id_}?", "reference": None, "finished": True, "repeating": False, "length": 4, "reward": None, "sampled": []}
    return {"id": id_, "set": name, "model": model, "text": text} | plain | given


def evaluation(store: Store, number: int, lines: list[dict[str, Any]], **more: Any) -> Made:
    """An evaluation artifact whose figures follow from its answers."""
    figures: dict[str, Any] = {"questions": 40, "prompts": 30, "models": {}, "reward_model": {"accuracy": 0.9, "pairs": 50}}
    for model in dict.fromkeys(entry["model"] for entry in lines):
        own = [entry for entry in lines if entry["model"] == model]
        asked, prompts = ([entry for entry in own if entry["set"] == name] for name in ("questions", "prompts"))
        figures["models"][model] = {
            "exact_match": sum(entry["text"].startswith("Silverrun") for entry in asked) / len(asked),
            "reward": sum(entry["reward"] for entry in prompts) / len(prompts),
            "finished_share": sum(entry["finished"] for entry in prompts) / len(prompts),
            "repeating_share": sum(entry["repeating"] for entry in prompts) / len(prompts),
            "length": sum(entry["length"] for entry in prompts) / len(prompts),
        }
    figures |= more

    def build(draft: Draft) -> Result:
        (draft.out / "evaluation.json").write_text(json.dumps(figures), encoding="utf-8")
        (draft.out / "answers.jsonl").write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in lines), encoding="utf-8")
        return Result({}, {})

    given = {role: Files(path=role, fingerprint=f"{number}-{role}") for role in ROLES}
    artifact, _ = store.make("evaluation", 1, Numbered(number=number), given, build)
    return made(artifact)


def judgement(store: Store, evaluated: Made, **settings: Any) -> Artifact:
    state = judge_answers.fn(Run(store=store.url), evaluated, JudgementSettings(**{"baseline": "sft"} | settings))
    found: Made = state.result()
    return found.artifact


def made(artifact: Artifact) -> Made:
    return Made(artifact=artifact, reused=False, seconds=0.0, counts={}, metrics={})


def read(store: Store, artifact: Artifact, name: str) -> Any:
    return json.loads((Path(store.local(artifact)) / name).read_text(encoding="utf-8"))
