"""The recipes for real models, run at small width through the same launcher, engine and code: two CPU ranks, ZeRO 3, bf16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.recipe_file import RECIPES, load
from tasks.jobs import JobFailed, Limits, deepspeed_command, environment, run_job
from tasks.launching import Forked
from tests.rlhf_core import toy
from tests.rlhf_core.conftest import chain, world  # noqa: F401 - fixtures


@pytest.mark.parametrize("path", sorted((RECIPES / "domain").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_seven_ways_of_domain_training_are_valid(path: Path) -> None:
    recipe = load(str(path))
    assert recipe.training[-1].name == "sft"
    assert recipe.training[0].init.startswith("Qwen/")  # type: ignore[union-attr]


def test_several_nodes_are_launched_by_their_hostfile(tmp_path: Path) -> None:
    launch = load("multi_node").training[0].launch
    command = deepspeed_command("rlhf_core.train", tmp_path / "job.json", launch.ranks, launch.hostfile)
    assert command[1:3] == ["-m", "deepspeed.launcher.runner"]
    hostfile = Path(command[command.index("--hostfile") + 1])
    assert hostfile.is_absolute() and "slots=8" in hostfile.read_text()
    assert "--num_gpus" not in command  # it would shut out the other nodes
    assert command[-3:] == ["--module", "rlhf_core.train", str(tmp_path / "job.json")]
    with pytest.raises(JobFailed, match=r"launch\.hostfile: no such file"):
        deepspeed_command("rlhf_core.train", tmp_path / "job.json", 1, str(tmp_path / "absent"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["single_gpu", "multi_gpu", "multi_node"])
def test_a_recipe_runs_at_small_width(chain: toy.Chain, name: str) -> None:  # noqa: F811
    """Every stage with its own settings; sizes, steps and the card's attention kernel are made small, ranks two, ZeRO 3,
    and where the recipe trains whole weights, LoRA in the last stage."""
    lora = {"rank": 4, "learning_rate": 1e-3}
    folders: dict[str, Path] = {"start": chain.world / "pretrain"}
    for stage in load(name).training:
        settings: dict[str, Any] = stage.model_dump(mode="json")
        settings |= {"steps": 2, "epochs": None, "batch_size": 4, "eval_steps": 2, "checkpoint_steps": 1, "max_length": 64}
        settings["launch"] |= {
            "ranks": 2, "threads": 1, "hostfile": None, "zero_stage": 3, "attention": "sdpa", "micro_batch_size": 1,
        }  # fmt: skip
        settings["optimizer"]["lora"] = settings["optimizer"]["lora"] and lora
        if stage is load(name).training[-1]:
            settings["optimizer"]["lora"] = lora
        for key in ("max_new_tokens", "max_prompt_length", "eval_prompts"):
            if key in settings:
                settings[key] = {"max_new_tokens": 8, "max_prompt_length": 32, "eval_prompts": 4}[key]
        data = {"pretrain": "corpus", "sft": "splits/sft", "ppo": "splits/ppo"}.get(stage.kind, "splits/reward")
        inputs = {"data": str(chain.world / data)}
        for role, model in stage.models().items():
            inputs[role] = str(folders.get(model, folders["start"]))
        output, work = chain.world / f"{name}_{stage.name}", chain.world / ".work" / f"{name}_{stage.name}"
        work.mkdir(parents=True)
        job = {"stage": settings, "inputs": inputs, "output": str(output), "work": str(work)}
        (work / "job.json").write_text(json.dumps(job))
        command = Forked("rlhf_core.train", work / "job.json", 2)
        run_job(command, output / "job.log", output / "metrics.jsonl", environment(2, 1), Limits(280, 280))
        saved = toy.weights(output)
        assert not any("lora" in key for key in saved) and {str(value.dtype) for value in saved.values()} == {"torch.bfloat16"}
        folders[stage.name] = output
