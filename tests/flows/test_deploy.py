"""The deployments and the compose file: valid, complete, without default secrets."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from prefect import get_client
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows import automations, deploy, form
from flows.full_pipeline import full_pipeline
from flows.place import needing_gpu
from flows.recipe import Recipe
from flows.recipe_file import load
from tasks.stage import Run
from tests.conftest import ROOT
from tests.flows import stack

SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "PREFECT_AUTH")


def test_every_deployment_names_a_flow_that_is_there() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    named = set()
    for deployment in deployments:
        file, function = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), function)
        named.add(f"{flow.name}/{deployment['name']}")
        assert deployment["work_pool"]["name"] in ("cpu", "gpu")
    assert {"retrain/weekly", "full_pipeline/production", "training/gpu", "evaluation/gpu", "housekeeping/daily"} <= named
    assert len(named) == len(deployments)


@pytest.mark.parametrize(
    ("settings", "in_gpu"),
    [
        ([], False),
        (["sampled.teacher_url=http://teacher/v1", "sampled.teacher_model=x", "answer_scoring.model={model}"], True),
        (["answer_sampling.model={model}", "judged.teacher_url=http://teacher/v1", "judged.teacher_model=x"], True),
        (["sampled.teacher_url=http://teacher/v1", "sampled.teacher_model=x", "judged.teacher_url=http://teacher/v1", "judged.teacher_model=x"], False),
    ],
)
def test_what_samples_on_this_projects_own_machines_goes_to_the_gpus(tmp_path: Path, settings: list[str], in_gpu: bool) -> None:
    """And every part that goes somewhere has its deployment there, in pool gpu."""
    (tmp_path / "prompts.jsonl").write_text("")
    given = [f"judged_prompts={tmp_path / 'prompts.jsonl'}", *(one.format(model=tmp_path) for one in settings)] if settings else []
    parts = needing_gpu(load("tiny", given))
    assert parts == {"training", "evaluation", *(["instructions"] if in_gpu else [])}
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    pools = {f"{Path(one['entrypoint'].split(':')[0]).stem}/{one['name']}": one["work_pool"]["name"] for one in deployments}
    assert all(pools[f"{part}/gpu"] == "gpu" for part in parts)


def test_compose_file_follows_the_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def compose() -> list[str]:
    """The command that reads a compose file, with an engine or without."""
    if found := shutil.which("docker-compose"):
        return [found]
    if (docker := shutil.which("docker")) and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    pytest.skip("neither docker-compose nor docker's compose plugin is installed (apt-get install --no-install-recommends docker-compose)")


def mounted(service: dict[str, Any]) -> list[str]:
    """FOLDER:PLACE:MODE of each volume, as the older compose writes them; the newer writes them out."""
    volumes = service["volumes"]
    return [one if isinstance(one, str) else f"{one['source']}:{one['target']}:{'ro' if one.get('read_only') else 'rw'}" for one in volumes]


def test_compose_itself_accepts_the_file_with_every_secret_and_refuses_it_without(tmp_path: Path) -> None:
    command, example = compose(), (ROOT / ".env.example").read_text()
    plain = {name: value for name, value in os.environ.items() if name not in SECRETS}
    (tmp_path / "env").write_text(re.sub(r"(?m)^([A-Z_]+)=$", r"\1=secret-of-\1", example))
    check = [*command, "--env-file", str(tmp_path / "env"), "-f", str(ROOT / "docker-compose.yml"), "--profile", "gpu", "config"]
    done = subprocess.run(check, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) >= {"server", "services", "cpu-worker", "gpu-worker"}
    assert all(any(volume.endswith("/crawl:/crawl:ro") for volume in mounted(services[f"{pool}-worker"])) for pool in ("cpu", "gpu"))
    assert services["cpu-worker"]["environment"]["PREFECT_API_AUTH_STRING"] == services["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == "secret-of-PREFECT_AUTH"
    (tmp_path / "env").write_text(example)
    refused = subprocess.run(check, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert refused.returncode and any(f"set {name}" in refused.stderr for name in SECRETS)


def test_the_tests_start_each_service_as_the_compose_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses apart: the stack of test_production.py is that of docker-compose.yml without containers."""
    started: dict[str, list[str]] = {}

    def start(self: stack.Stack, name: str, command: list[str], **more: str) -> Mock:
        started[name] = [part for part in command[command.index("prefect") :] if part not in ("127.0.0.1", "--port") and not part.isdecimal()] if "prefect" in command else []
        return Mock(wait=Mock(return_value=0))

    monkeypatch.setattr(stack.Stack, "start", start)
    monkeypatch.setattr(stack.Stack, "log", Mock(return_value=""))
    for name, value in {"POSTGRES": tmp_path, "REDIS": "redis-server", "_postgres": Mock(), "moto": lambda: "moto_server", "until": Mock()}.items():
        monkeypatch.setattr(stack, name, value)
    with stack.running(tmp_path / "stack") as made:
        made.worker("cpu")
        made.worker("gpu")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    of_prefect = {name: service["command"] for name, service in services.items() if (service.get("command") or [""])[0] == "prefect"}
    assert set(of_prefect) == {"migration", "server", "services", "cpu-worker", "gpu-worker"}
    for name, command in of_prefect.items():
        assert started[name] == [part for part in command if part != "0.0.0.0"], name


def test_compose_demands_its_secrets_and_the_example_names_them() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line))
    for name in SECRETS:
        assert f"${{{name}:?" in text
        assert not re.search(rf"\$\{{{name}(:-|\}})", text), f"{name} has a default or is not demanded"
        assert example[name] == ""
    services = yaml.safe_load(text)["services"]
    assert {"postgres", "redis", "minio", "migration", "server", "services", "cpu-worker", "gpu-worker", "tensorboard"} <= set(services)
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    lasting = {name for name, service in services.items() if service["restart"] != "no"}
    assert lasting == set(services) - {"bucket", "migration"}
    assert not [name for name in lasting if not services[name].get("healthcheck", {}).get("test")], "services that die unnoticed"
    assert not [name for name in lasting if not services[name]["deploy"]["resources"].get("limits", {}).get("memory")], "services without a limit"
    for name, service in services.items():
        assert re.search(r":[^:]*\d", service["image"]) and "latest" not in service["image"], f"{name}: the image is not pinned"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), f"{name}: a port is open to the world"


def test_a_silent_run_is_marked_after_two_missed_heartbeats() -> None:
    beat = int(yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * beat < automations.SILENT_SECONDS < 90
    assert automations.wanted()[0].trigger.within.total_seconds() == automations.SILENT_SECONDS  # type: ignore[union-attr]


def test_dockerfile_runs_as_nobody_special_and_pins_its_base() -> None:
    text = Path(ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-", text, re.M) and re.search(r"^USER (?!root)", text, re.M)


# ---- on a server ----


@pytest.mark.slow
def test_deploying_twice_leaves_one_of_everything_with_the_recipes_values(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time by the function that `prefect deploy` is followed by: what it does again is Prefect's own matter."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    assert deploy.main(["--store", str(tmp_path), "--set", "ppo.kl_coef=0.07", "--secret", "STORE_KEY=store-key"]) == 0
    named = capsys.readouterr().out.splitlines()[:-1]
    with get_client(sync_client=True) as client:
        for _ in range(2):
            pools = {pool.name: pool.concurrency_limit for pool in client.read_work_pools()}
            assert (pools["cpu"], pools["gpu"]) == (None, 1)
            found = {name: client.read_deployment_by_name(name) for name in named}
            for name, deployment in found.items():
                variables = (deployment.job_variables or {})["env"]
                assert variables == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_CLIENT_MAX_RETRIES": "8", "STORE_KEY": "{{ prefect.blocks.secret.store-key }}"}
                if name != "housekeeping/daily":
                    assert "anyOf" in deployment.parameter_openapi_schema["definitions"]["Recipe"]["properties"]["training"]["then"]["items"]  # type: ignore[index]
                    recipe, run = Recipe.model_validate(deployment.parameters["recipe"]), Run.model_validate(deployment.parameters["run"])
                    assert recipe.training[-1].kl_coef == 0.07 and run.store == str(tmp_path)  # type: ignore[union-attr]
                    assert run.gpu == (None if name.split("/")[0] in deploy.PARTS else "gpu")
            for automation in automations.wanted():
                assert len(list(client.read_automations_by_name(automation.name))) == 1
            for name, limit in deploy.POOLS.items():
                deploy._pool(client, name, limit)
            assert deploy._fill(client, recipe, run.model_copy(update={"gpu": "gpu"})) == named
            automations.install(client)


@pytest.mark.slow
def test_no_deployment_is_without_its_recipe_and_secrets_while_all_are_applied(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy server that takes minutes, and a deploy that fails half way would leave them so."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setattr(deploy, "_fill", Mock(return_value=["what follows is not reached"]))
    assert deploy.main(["--store", str(tmp_path), "--set", "ppo.kl_coef=0.07", "--secret", "STORE_KEY=store-key"]) == 0
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            flow = client.read_flow(deployment.flow_id).name
            assert (deployment.job_variables or {})["env"]["STORE_KEY"] == "{{ prefect.blocks.secret.store-key }}"
            if flow != "housekeeping":
                assert Recipe.model_validate(deployment.parameters["recipe"]) == load("tiny", ["ppo.kl_coef=0.07"])
                assert Run.model_validate(deployment.parameters["run"]).gpu == (None if flow in deploy.PARTS else "gpu")
            else:
                assert deployment.parameters == {"keep_days": 90}


def test_a_secret_is_named_and_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        deploy.main(["--secret", "AWS_SECRET_ACCESS_KEY=hunter2/+"])
    said = capsys.readouterr().err
    assert refusal.value.code == 2 and "--secret: write VARIABLE=BLOCK" in said and "hunter2" not in said


# ---- the form in the UI ----


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kl_coef", "much", "'recipe.training[3].kl_coef'. Failure reason: 'much' is not of type 'number'"),
        ("batch_size", -3, "'recipe.training[3].batch_size'. Failure reason: -3 is less than the minimum of 1"),
        ("optimizer", {"kind": "adamw", "learning_rate": "fast"}, "'recipe.training[3].optimizer.learning_rate'. Failure reason: 'fast'"),
        ("kl_coeff", 0.1, "'recipe.training[3]'. Failure reason: Additional properties are not allowed ('kl_coeff' was unexpected)"),
        ("kind", "pppo", "'recipe.training[3].kind'. Failure reason: 'pppo' is not one of ['best_of_n', 'dpo'"),
    ],
)
def test_a_wrong_value_of_a_training_stage_is_refused_by_its_name(key: str, value: Any, said: str) -> None:
    """As the server checks what a form sends. The stage is one of nine kinds, and the server knows not which was meant."""
    schema = form.naming_fields(parameter_schema(full_pipeline).model_dump())
    given = {"recipe": load("tiny").model_dump(mode="json"), "run": {"store": "artifacts"}}
    validate(given, schema, raise_on_error=True)
    given["recipe"]["training"][3][key] = value
    with pytest.raises(ValidationError) as refusal:
        validate(given, schema, raise_on_error=True)
    assert said in str(refusal.value)


@pytest.mark.parametrize("name", ["full_pipeline", "corpus", "instructions", "training", "evaluation", "retrain", "sweep", "housekeeping"])
def test_every_field_of_a_deployments_form_explains_itself(name: str) -> None:
    """The parameters' schema as the server shows it: no field without a word of what it means."""
    module = importlib.import_module(f"flows.{name}")
    flow = module.pipeline if hasattr(module, "pipeline") else getattr(module, name)
    schema = parameter_schema(flow).model_dump()  # as `prefect deploy` asks for it
    assert set(schema["properties"]) == set(inspect.signature(flow.fn).parameters)
    fields = [(name, key, field) for name, model in schema["definitions"].items() for key, field in model.get("properties", {}).items()]
    fields += [("parameters", key, field) for key, field in schema["properties"].items()]
    dumb = [f"{model}.{key}" for model, key, field in fields if not explained(field, schema["definitions"])]
    assert not dumb, f"{len(dumb)} fields say nothing: {dumb}"


def explained(field: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """By a description of its own, or of the group of settings that it opens."""
    refers = [field, *field.get("allOf", []), *field.get("anyOf", [])]
    named = [definitions[one["$ref"].rsplit("/", 1)[-1]] for one in refers if "$ref" in one]
    return bool(field.get("description") or any(one.get("description") for one in named) or field.get("const"))
