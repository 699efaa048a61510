"""Put the project on a Prefect server: pools, deployments with a recipe's values, the automation for lost workers.

python -m flows.deploy --recipe tiny --store s3://models/artifacts
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL

from flows import automations, command_line
from flows.recipe import Recipe
from tasks.stage import Run

HOME = Path(__file__).resolve().parent.parent
POOLS = {"cpu": None, "gpu": 1}  # runs at the same time; None = as many as the workers take
PARTS = ("corpus", "instructions", "training", "evaluation")


def deploy(recipe: Recipe, run: Run) -> list[str]:
    """Apply prefect.yaml to the server at PREFECT_API_URL; again changes nothing but what has changed. Returns the names."""
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            _pool(client, name, limit)
        environment = {**os.environ, "CRAWL2CHAT_HOME": os.environ.get("CRAWL2CHAT_HOME", str(HOME))}
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=HOME, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"prefect deploy --all failed:\n{(done.stdout + done.stderr)[-2000:]}")
        names = _fill(client, recipe, run)
        automations.install(client)
    return names


def elsewhere(recipe: Recipe) -> dict[str, str]:
    """Part -> its deployment in pool gpu: training, evaluation, and the instructions where a model of this project's own machines answers
    or judges. What asks a server needs no GPU, and stays."""
    asks = (recipe.self_instruct, recipe.domain, recipe.sampled, recipe.judged)
    jobs = (recipe.answer_sampling, recipe.answer_scoring)
    local = any(one.teacher_local for one in asks) or (recipe.judged_prompts and any(one.model for one in jobs))
    return {part: f"{part}/gpu" for part in (*(["instructions"] if local else []), "training", "evaluation")}


def _pool(client: SyncPrefectClient, name: str, limit: int | None) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


def _fill(client: SyncPrefectClient, recipe: Recipe, run: Run) -> list[str]:
    """Give every deployment that takes a recipe this one, so that the UI's form opens with its values."""
    given = yaml.safe_load((HOME / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    names = []
    for entry in given:
        module, function = Path(entry["entrypoint"].split(":")[0]).stem, entry["entrypoint"].split(":")[1]
        flow = module if function == "pipeline" else function
        name = f"{flow}/{entry['name']}"
        names.append(name)
        if flow == "housekeeping":
            continue
        own_run = run.model_copy(update={"deployments": {} if flow in PARTS else elsewhere(recipe)})
        parameters: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "run": own_run.model_dump(mode="json")}
        if flow in PARTS:
            parameters["made"] = {}
        deployment = client.read_deployment_by_name(name)
        client.update_deployment(deployment.id, DeploymentUpdate(parameters=parameters))
    return names


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__)
    command_line.add_recipe_options(parser)
    options = command_line.options(parser.parse_args(arguments))
    if not PREFECT_API_URL.value():
        command_line.refuse("no Prefect server: set PREFECT_API_URL, as in http://127.0.0.1:4200/api (prefect server start)")
    store = options.store if "://" in options.store else str(Path(options.store).resolve())
    run = Run(store=store, workers=options.recipe.runner.workers)
    for name in deploy(options.recipe, run):
        print(name)
    print(f"deployed to {PREFECT_API_URL.value()}; start workers: prefect worker start --pool cpu (and --pool gpu)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
