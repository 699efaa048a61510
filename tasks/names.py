"""Names of task runs in the UI that say what they do: `sft · 0.49B · 2 ranks`, `extraction · 12 shards`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_core.job.errors import BadInput
from rlhf_core.models import shapes
from rlhf_core.settings import PretrainStage, TrainingStage
from tasks.stage import Made, Run
from tasks.store.artifacts import Files


def over_shards(stage: str) -> Any:
    """For a task whose first artifact among the parameters holds the documents that it works on, or their labels; the type is Prefect's own
    matter."""

    def name(parameters: dict[str, Any]) -> str:
        made = next(value for value in parameters.values() if isinstance(value, Made))
        files = parameters["run"].open_store().manifest(made.artifact).files
        documents, labels = (sum(file.startswith(f"{kind}/part-") for file in files) for kind in ("documents", "labels"))
        return f"{stage} · {_counted(documents or labels, 'shard')}"

    return name


def over_ranks() -> Any:
    """For `train`: the stage, its model's size where it is known without loading it, and how many ranks train it."""

    def name(parameters: dict[str, Any]) -> str:
        stage: TrainingStage = parameters["stage"]
        size = _size(parameters["run"], stage, parameters["artifacts"], parameters["folders"])
        return " · ".join([stage.name, *([size] if size else []), _counted(stage.launch.ranks, "rank")])

    return name


def _size(run: Run, stage: TrainingStage, artifacts: Mapping[str, Made | Files], folders: Mapping[str, str]) -> str | None:
    """None where nothing at hand says it: a name fails no run and asks no network."""
    source = artifacts.get("init")
    try:
        if isinstance(source, Made):
            config = run.open_store().read(source.artifact, f"{folders['init']}/config.json")
            shape = shapes.of_config(stage.init or "", json.loads(config))
        elif isinstance(source, Files):
            shape = shapes.named(str(Path(source.path) / folders.get("init", "")))
        elif "init" in folders:
            shape = shapes.KNOWN[folders["init"].removesuffix("-Instruct")]
        else:
            tokenizer = artifacts["tokenizer"]
            assert isinstance(stage, PretrainStage) and isinstance(tokenizer, Made)
            shape = shapes.fresh(stage.model, tokenizer.metrics["vocab_size"])
    except (BadInput, OSError, ValueError, KeyError, TypeError):
        return None
    return shapes.in_words(shape.parameters)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
