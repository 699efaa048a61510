"""Task runs are named by what they do, and by what can be known without loading or asking anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from rlhf_core.settings import Launch, PretrainStage, SftStage
from tasks import names
from tasks.stage import Made, Run
from tasks.store.artifacts import Draft, Files, Result

CONFIG = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 125_000, "tie_word_embeddings": True}
SIZE = "1.00M"  # 125,000 * 8 embeddings, and 658 besides


class Nothing(BaseModel):
    pass


def made(run: Run, stage: str, *files: str, **metrics: Any) -> Made:
    def build(draft: Draft) -> Result:
        for file in files:
            (draft.out / file).parent.mkdir(parents=True, exist_ok=True)
            (draft.out / file).write_text(json.dumps(CONFIG))
        return Result({}, metrics)

    artifact, _ = run.open_store().make(stage, 1, Nothing(), {}, build)
    return Made(artifact=artifact, reused=False, seconds=0, counts={}, metrics=metrics)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(store=str(tmp_path / "store"))


def test_shards_are_those_of_the_documents(run: Run) -> None:
    parts = [f"documents/part-{number:05}.parquet" for number in range(12)]
    documents = made(run, "lines", *parts, "dropped/part-00000.parquet")
    assert names.over_shards("extraction")({"run": run, "pages": documents, "settings": None}) == "extraction · 12 shards"
    assert names.over_shards("urls")({"run": run, "pages": made(run, "ingest", parts[0])}) == "urls · 1 shard"


def test_a_training_is_named_by_stage_size_and_ranks(run: Run, tmp_path: Path) -> None:
    def name(stage: Any, artifacts: dict[str, Any], folders: dict[str, str]) -> str:
        return str(names.over_ranks()({"run": run, "stage": stage, "artifacts": artifacts, "folders": folders}))

    sft = SftStage(name="sft", init="x", launch=Launch(ranks=2))
    assert name(sft, {"init": made(run, "base", "model/config.json")}, {"init": "model"}) == f"sft · {SIZE} · 2 ranks"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert name(sft, {"init": Files.of(str(tmp_path))}, {"init": ""}) == f"sft · {SIZE} · 2 ranks"
    assert name(sft, {}, {"init": "Qwen/Qwen2.5-0.5B-Instruct"}) == "sft · 0.49B · 2 ranks"
    fresh = PretrainStage(name="pretrain", launch=Launch(ranks=1))
    inner = fresh.model.hidden_size
    tokenizer = made(run, "tokenizer", vocab_size=1000)
    found = name(fresh, {"tokenizer": tokenizer}, {"tokenizer": "tokenizer"})
    assert found.startswith("pretrain · ") and found.endswith("M · 1 rank") and float(found.split(" · ")[1][:-1]) * 1e6 > 1000 * inner

    # what cannot be known is left out, and fails nothing
    assert name(sft, {}, {"init": "someone/unheard-of"}) == "sft · 2 ranks"
    assert name(sft, {"init": made(run, "empty", "notes.txt")}, {"init": "model"}) == "sft · 2 ranks"
    (tmp_path / "config.json").write_text("{broken")
    assert name(sft, {"init": Files.of(str(tmp_path))}, {"init": ""}) == "sft · 2 ranks"


@pytest.mark.usefixtures("prefect_server")
def test_the_server_is_told_the_name(run: Run) -> None:
    from prefect.runtime import task_run

    @task(task_run_name=names.over_shards("quality"), cache_policy=NO_CACHE)
    def work(run: Run, documents: Made) -> str:
        return str(task_run.name)

    @flow
    def whole() -> str:
        return work(run, made(run, "lines", "documents/part-00000.parquet", "documents/part-00001.parquet"))

    assert whole() == "quality · 2 shards"
