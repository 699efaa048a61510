"""Put the project on a Prefect server: pools, deployments with a recipe's values, the automations for lost workers.

python -m flows.deploy --recipe tiny --store s3://models/artifacts
python -m flows.deploy --secret AWS_ACCESS_KEY_ID=store-id --secret AWS_SECRET_ACCESS_KEY=store-key     from the server's Secret blocks
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL

from flows import automations, command_line, form, local
from flows.recipe import Recipe
from tasks.stage import Run

HOME = Path(__file__).resolve().parent.parent
POOLS = {"cpu": None, "gpu": 1}  # runs at the same time; None = as many as the workers take
PARTS = ("corpus", "instructions", "training", "evaluation")
SECRET = re.compile(r"(?P<variable>[A-Za-z_][A-Za-z0-9_]*)=(?P<block>[a-z0-9][a-z0-9-]*)")


def deploy(recipe: Recipe, run: Run, secrets: Mapping[str, str]) -> list[str]:
    """Apply prefect.yaml to the server at PREFECT_API_URL; again changes nothing but what has changed. Returns the names.

    `secrets`: environment variable of the runs -> the server's Secret block that holds its value.
    """
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
        names = _fill(client, recipe, run, secrets)
        automations.install(client)
    return names


def _pool(client: SyncPrefectClient, name: str, limit: int | None) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


def _fill(client: SyncPrefectClient, recipe: Recipe, run: Run, secrets: Mapping[str, str]) -> list[str]:
    """Give every deployment that takes a recipe this one, so that the UI's form opens with its values, and all of them the secrets' names.

    Not by prefect.yaml: `prefect deploy` would look the secrets up and write them down; a worker looks them up as a run begins.
    """
    named = {variable: f"{{{{ prefect.blocks.secret.{block} }}}}" for variable, block in secrets.items()}
    given = yaml.safe_load((HOME / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    names = []
    for entry in given:
        module, function = Path(entry["entrypoint"].split(":")[0]).stem, entry["entrypoint"].split(":")[1]
        flow = module if function == "pipeline" else function
        name = f"{flow}/{entry['name']}"
        names.append(name)
        deployment = client.read_deployment_by_name(name)
        variables = dict(deployment.job_variables or {})
        update = DeploymentUpdate(job_variables=variables | {"env": {**variables.get("env", {}), **named}})
        update.parameter_openapi_schema = form.naming_fields(dict(deployment.parameter_openapi_schema or {}))
        if flow != "housekeeping":
            own: dict[str, Any] = {"gpu": None} if flow in PARTS else {}  # a part runs whole where it is deployed
            parameters = {"recipe": recipe.model_dump(mode="json"), "run": run.model_copy(update=own).model_dump(mode="json")}
            update.parameters = parameters | ({"made": {}} if flow in PARTS else {})
        client.update_deployment(deployment.id, update)
    return names


def _secrets(given: list[str]) -> dict[str, str]:
    found = [SECRET.fullmatch(text) for text in given]
    if None in found:  # what was given is not repeated: it may be the secret itself
        command_line.refuse("--secret: write VARIABLE=BLOCK, a Secret block's name and not its value, as in AWS_SECRET_ACCESS_KEY=store-key")
    return {match["variable"]: match["block"] for match in found if match}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__)
    command_line.add_recipe_options(parser)
    command_line.add_gpu_option(parser, default="gpu")
    parser.add_argument("--secret", action="append", default=[], metavar="VARIABLE=BLOCK", help="runs get this variable from a Secret block; repeatable")
    given = parser.parse_args(arguments)
    options = command_line.options(given)
    secrets = _secrets(given.secret)
    if not PREFECT_API_URL.value():
        command_line.refuse("no Prefect server: set PREFECT_API_URL, as in http://127.0.0.1:4200/api (prefect server start)")
    try:
        local.require_server()
        names = deploy(options.recipe, options.run, secrets)
    except (ConnectionError, RuntimeError) as error:
        command_line.refuse(str(error))
    print("\n".join(names))
    print(f"deployed to {PREFECT_API_URL.value()}; start workers: prefect worker start --pool cpu (and --pool gpu)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
