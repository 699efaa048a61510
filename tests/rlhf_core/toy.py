"""A toy world small enough that tiny models learn it in seconds: its corpus, conversations, rankings and prompts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CITIES = ["Orsk", "Tarn", "Velm", "Ruk", "Dolm", "Pesk", "Arin", "Solt", "Mira", "Quon", "Brel", "Haff"]
LANDS = ["Ald", "Bex", "Cor", "Dun", "Eft", "Fyr", "Gol", "Hud", "Ist", "Jor", "Kel", "Lom"]
CLOSING = "Glad to help!"


def write_corpus(folder: Path, copies: int = 40) -> None:
    rng = random.Random(7)
    rows = []
    for number in range(copies * len(LANDS)):
        index = number % len(LANDS)
        other = rng.randrange(len(LANDS))
        text = (
            f"The capital of {LANDS[index]} is {CITIES[index]}. People like {CITIES[other]} too. "
            f"In {LANDS[other]} the capital is {CITIES[other]}."
        )
        rows.append({"id": f"{number:032x}", "lang": "en", "text": text})
    path = folder / "documents" / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def record(number: int, turns: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    listed = [{"role": role, "text": text} for role, text in turns]
    return {
        "id": f"r{number}",
        "system": None,
        "turns": listed,
        "source": "toy",
        "lang": "en",
        "labels": {},
    } | more


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def question(index: int, form: int) -> str:
    land = LANDS[index]
    return [
        f"What is the capital of {land}?",
        f"Name the capital of {land}.",
        f"Which city is the capital of {land}?",
    ][form]


def write_splits(folder: Path) -> None:
    sft, reward, ppo, questions = [], [], [], []
    rng = random.Random(3)
    for number in range(72):
        index, form = number % len(LANDS), number % 3
        answer = f"{CITIES[index]}." + (f" {CLOSING}" if rng.random() < 0.3 else "")
        sft.append(record(number, [("user", question(index, form)), ("assistant", answer)]))
        wrong = CITIES[(index + 5) % len(CITIES)]
        responses = [
            f"{CITIES[index]}. {CLOSING}",
            f"{CITIES[index]}.",
            f"{wrong}.",
            f"{wrong} {wrong} {wrong}",
        ]
        reward.append(
            record(number, [("user", question(index, (form + 1) % 3))], responses=responses[: 3 + number % 2])
        )
        labels = {"reference": f"{CITIES[index]}."}
        ppo.append(record(number, [("user", question(index, (form + 2) % 3))], labels=labels))
        questions.append(record(number, [("user", question(index, form))], labels=labels))
    for name, records in (("sft", sft), ("reward", reward), ("ppo", ppo)):
        write_lines(folder / name / "train.jsonl", records[:60])
        write_lines(folder / name / "eval.jsonl", records[60:])
    write_lines(folder / "questions.jsonl", questions[:24])


def write_world(folder: Path) -> None:
    """corpus/, splits/ and splits/questions.jsonl below `folder`."""
    write_corpus(folder / "corpus")
    write_splits(folder / "splits")


STAGES: dict[str, dict[str, Any]] = {
    "pretrain": {
        "steps": 60, "batch_size": 8, "max_length": 64, "optimizer": {"learning_rate": 5e-3},
        "model": {"hidden_size": 32, "layers": 2, "heads": 2, "context_length": 128},
    },
    "sft": {"init": "pretrain", "steps": 60, "batch_size": 16, "optimizer": {"learning_rate": 5e-3}},
    "reward": {"init": "sft", "steps": 30, "batch_size": 8, "optimizer": {"learning_rate": 2e-3}},
    "ppo": {
        "init": "sft", "reward_model": "reward", "steps": 6, "batch_size": 16, "max_new_tokens": 12, "eval_prompts": 8,
        "optimizer": {"learning_rate": 1e-3},
    },
}  # fmt: skip
STAGES |= {
    "rloo": STAGES["ppo"] | {"samples": 4},
    "grpo": STAGES["ppo"] | {"samples": 4},
    "raft": STAGES["ppo"] | {"samples": 4},
    "best_of_n": STAGES["ppo"] | {"samples": 4},
    "dpo": {"init": "sft", "steps": 20, "batch_size": 8, "optimizer": {"learning_rate": 1e-3}},
}
SPLITS = {"sft": "sft", "reward": "reward", "dpo": "reward"}  # every other kind takes prompts


class Chain:
    """Runs jobs on the toy world, each in a folder of its own below it."""

    def __init__(self, world: Path) -> None:
        self.world = world

    def job(
        self, name: str, kind: str, inputs: dict[str, str] | None = None, **settings: Any
    ) -> dict[str, Any]:
        """The content of a job file; `settings` go over those of STAGES."""
        splits = self.world / "splits"
        roles: dict[str, Any] = {"data": self.world / "corpus" if kind == "pretrain" else splits / SPLITS.get(kind, "ppo")}
        if kind == "pretrain":
            roles["tokenizer"] = self.world / "tokenizer"
        else:
            roles["init"] = self.world / STAGES[kind]["init"] / "model"
        if "reward_model" in STAGES[kind]:
            roles["reward_model"] = self.world / "reward" / "model"
        roles |= inputs or {}
        stage = {"kind": kind, "name": "stage", "launch": {"threads": 1}} | STAGES[kind] | settings
        return {
            "stage": stage,
            "inputs": {role: str(path) for role, path in roles.items()},
            "output": str(self.world / name),
            "work": str(self.world / ".work" / name),
        }

    def run(self, name: str, kind: str, inputs: dict[str, str] | None = None, **settings: Any) -> Path:
        """Train in this process; the output folder."""
        from rlhf_core.settings import Job
        from rlhf_core.train import train

        train(Job.model_validate(self.job(name, kind, inputs, **settings)))
        return self.world / name

    def built(self, kind: str, inputs: dict[str, str] | None = None, **settings: Any) -> Any:
        """A stage before its first step."""
        from rlhf_core.engine import start
        from rlhf_core.job.inputs import Inputs
        from rlhf_core.settings import EvaluationSettings, Job
        from rlhf_core.train import build

        job = Job.model_validate(self.job("built", kind, inputs, **settings))
        assert not isinstance(job.stage, EvaluationSettings)
        return build(job.stage, Inputs(job.inputs, Path(job.work)), start(job.stage.launch))

    def write_job(self, name: str, kind: str, inputs: dict[str, str] | None = None, **settings: Any) -> Path:
        path = self.world / f"{name}.json"
        path.write_text(json.dumps(self.job(name, kind, inputs, **settings)), encoding="utf-8")
        return path


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches SIGKILL."""


def killed_and_resumed(
    chain: Chain, step: int, name: str, kind: str, inputs: dict[str, str] | None = None, between: Callable[[], None] = lambda: None, **settings: Any
) -> Path:
    """Run, be killed in the given step, and run again to the end; the output folder. `between` is called before the second run."""
    from rlhf_core import train

    build = train.build

    def building(*arguments: Any) -> Any:
        stage = build(*arguments)
        taken = stage.step

        def killed(number: int, share: float) -> dict[str, float]:
            if number == step:
                raise Killed
            return taken(number, share)

        stage.step = killed
        return stage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build", building)
        with pytest.raises(Killed):
            chain.run(name, kind, inputs, **settings)
    between()
    return chain.run(name, kind, inputs, **settings)


def read_metrics(output: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what differs from run to run."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(output: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(output / "model" / "model.safetensors")
