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
import tempfile
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
MAX_RETRIES = "8"  # of a request that a busy server refuses: minutes, as for runs (prefect.yaml)
CARRIER = "CRAWL2CHAT_SECRET_"  # begins the variables that carry references past `prefect deploy`
SECRET = re.compile(r"(?P<variable>[A-Za-z_][A-Za-z0-9_]*)=(?P<block>[a-z0-9][a-z0-9-]*)")


def deploy(recipe: Recipe, run: Run, secrets: Mapping[str, str]) -> list[str]:
    """Apply prefect.yaml to the server at PREFECT_API_URL; again changes nothing but what has changed. Returns the names.

    `secrets`: environment variable of the runs -> the server's Secret block that holds its value.
    """
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            _pool(client, name, limit)
        _apply(recipe, run, secrets)
        names = _fill(client, recipe, run)
        automations.install(client)
    return names


def _pool(client: SyncPrefectClient, name: str, limit: int | None) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


def _apply(recipe: Recipe, run: Run, secrets: Mapping[str, str]) -> None:
    """`prefect deploy` of prefect.yaml with the parameters and the secrets' names in it: it takes from a deployment what is not in its file,
    and a run that began before _fill, or after a deploy that failed half way, would have no recipe."""
    environment = {"CRAWL2CHAT_HOME": str(HOME), "PREFECT_CLIENT_MAX_RETRIES": MAX_RETRIES, **os.environ}
    wanted = _wanted()
    references = {}
    for variable, block in secrets.items():
        # For a worker, which looks it up as a run begins: in the file it would be looked up now and written down, out of a variable it is not.
        environment[f"{CARRIER}{variable}"] = f"{{{{ prefect.blocks.secret.{block} }}}}"
        references[variable] = f"{{{{ ${CARRIER}{variable} }}}}"
    for entry in wanted["deployments"]:
        pool = entry["work_pool"]
        entry["work_pool"] = pool | {"job_variables": {"env": pool["job_variables"]["env"] | references}}
        entry["parameters"] = _parameters(_flow_name(entry), recipe, run) or entry.get("parameters", {})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(wanted, file, allow_unicode=True)
        file.flush()
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name]
        done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"prefect deploy --all failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _wanted() -> dict[str, Any]:
    """What prefect.yaml says."""
    found: dict[str, Any] = yaml.safe_load((HOME / "prefect.yaml").read_text(encoding="utf-8"))
    return found


def _flow_name(entry: Mapping[str, Any]) -> str:
    file, function = entry["entrypoint"].split(":")
    return Path(file).stem if function == "pipeline" else str(function)


def _parameters(flow: str, recipe: Recipe, run: Run) -> dict[str, Any]:
    """So that the UI's form opens with the recipe's values; empty for a flow that takes no recipe."""
    if flow == "housekeeping":
        return {}
    own: dict[str, Any] = {"gpu": None} if flow in PARTS else {}  # a part runs whole where it is deployed
    parameters = {"recipe": recipe.model_dump(mode="json"), "run": run.model_copy(update=own).model_dump(mode="json")}
    return parameters | ({"made": {}} if flow in PARTS else {})


def _fill(client: SyncPrefectClient, recipe: Recipe, run: Run) -> list[str]:
    """Give every deployment what `prefect deploy` cannot: a form's schema that names fields, and the parameters as they are (it takes
    braces in them for templates). Returns the deployments' names."""
    names = []
    for entry in _wanted()["deployments"]:
        flow = _flow_name(entry)
        name = f"{flow}/{entry['name']}"
        names.append(name)
        deployment = client.read_deployment_by_name(name)
        update = DeploymentUpdate(parameter_openapi_schema=form.naming_fields(dict(deployment.parameter_openapi_schema or {})))
        if parameters := _parameters(flow, recipe, run):
            update.parameters = parameters
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
