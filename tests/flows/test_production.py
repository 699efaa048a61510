"""In production: Postgres, Redis, S3, a server with auth, two workers, deployments. Minutes: `pytest -m slow`."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psutil
import pytest
import yaml

from flows.recipe_file import load
from tests.conftest import ROOT
from tests.flows import stack as stacks
from tests.flows.person import FEW_STEPS, ranks
from tests.flows.stack import FINAL, Stack, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(stacks.missing() is not None, reason=f"not installed: {stacks.missing()}"),
]
MINUTES = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stacks.running(tmp_path_factory.mktemp("stack")) as stack:
        done = stack.python("-c", "import fsspec; fsspec.filesystem('s3').makedirs('artifacts', exist_ok=True)")
        assert done.returncode == 0, done.stderr
        stacks.deploy(stack, "s3://artifacts/store")
        stack.worker("cpu")
        stack.worker("gpu")
        yield stack


def recipe(*more: str) -> dict[str, Any]:
    return load("tiny", [*FEW_STEPS, *more]).model_dump(mode="json")


def ended(stack: Stack, run: str, minutes: float = 20) -> dict[str, Any]:
    return stack.reaches(run, *FINAL, seconds=minutes * MINUTES)


def child(stack: Stack, run: str, flow: str, minutes: float = 10) -> dict[str, Any]:
    """The run of `flow` that `run` started in another pool, once it runs."""

    def running() -> dict[str, Any] | None:
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}, "flows": {"name": {"any_": [flow]}}}
        found = [one for one in stack.call("POST", "/flow_runs/filter", body) if one["state"]["type"] == "RUNNING"]
        return found[0] if found else None

    found: dict[str, Any] = until(running, f"{run} never started {flow}", minutes * MINUTES)
    return found


def step(stack: Stack, stage: str, since: float) -> int:
    """The last step that a job of `stage` has reported after the time `since`; a job that ended badly leaves its lines too."""
    reports = [path for path in stack.folder.glob(f"cache/crawl2chat/*/{stage}-*/work/output/metrics.jsonl") if path.stat().st_mtime > since]
    lines = [line for path in reports for line in path.read_text().splitlines() if line.endswith("}")]
    return int(json.loads(lines[-1])["step"]) if lines else 0


@pytest.fixture(autouse=True)
def nothing_goes_on_after_a_test(stack: Stack) -> Iterator[None]:
    """What a failed test leaves running would hold the gpu pool against the next one."""
    yield
    living = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}, "expected_start_time": {"before_": _soon()}}}
    left = [one["id"] for one in stack.call("POST", "/flow_runs/filter", living)]
    for run in left:
        stack.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    for run in left:
        ended(stack, run, 5)


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(minutes=5)).isoformat()


def test_wrong_password_is_refused_and_a_wrong_value_names_its_field(stack: Stack) -> None:
    from urllib.error import HTTPError

    stranger = Stack(stack.folder, {**stack.environment, "PREFECT_API_AUTH_STRING": "admin:guess"})
    with pytest.raises(HTTPError) as refusal:
        stranger.call("GET", "/deployments/name/full_pipeline/production")
    assert refusal.value.code == 401
    wrong = recipe() | {"splits": {"eval_share": 2}}
    with pytest.raises(HTTPError) as refusal:
        stack.create("full_pipeline/production", recipe=wrong)
    assert refusal.value.code == 409 and "eval_share" in refusal.value.read().decode()


def test_the_compose_files_health_checks_notice_who_hangs(stack: Stack) -> None:
    """Its own commands, with this stack's ports; a process that is stopped has neither ended nor closed its port."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    server = int(stack.environment["PREFECT_API_URL"].split(":")[2].split("/")[0])
    ports = stack.ports | {"server": server}

    def healthy(name: str) -> bool:
        command, interpreter, option, code = services[name]["healthcheck"]["test"]
        assert (command, interpreter, option) == ("CMD", "python", "-c")
        return stack.python(option, re.sub(r"(?<=127\.0\.0\.1:)\d+", str(ports.get(name)), code)).returncode == 0

    for name in ("server", "services", "cpu-worker", "gpu-worker"):
        until(partial(healthy, name), f"{name} never became healthy: {stack.log(name)[-2000:]}", 60)
        family = [psutil.Process(stack.processes[name].pid), *psutil.Process(stack.processes[name].pid).children(recursive=True)]
        try:
            for process in family:
                process.suspend()
            until(lambda name=name: not healthy(name), f"{name} hangs and is called healthy", 60)  # type: ignore[misc]
        finally:
            for process in family:
                process.resume()
        until(partial(healthy, name), f"{name} stayed unhealthy", 60)


def test_whole_way_through_both_pools_then_reused(stack: Stack) -> None:
    run = stack.create("retrain/weekly", recipe=recipe())
    assert ended(stack, run)["type"] == "COMPLETED", stack.log("cpu-worker")[-3000:]
    assert ended(stack, stack.create("retrain/weekly", recipe=recipe()))["name"] == "NothingNew"
    started = time.monotonic()
    assert ended(stack, stack.create("full_pipeline/production", recipe=recipe()))["type"] == "COMPLETED"
    print(f"everything reused through a deployment: {time.monotonic() - started:.0f} s")
    jobs = [path.name for path in stack.folder.glob("cache/crawl2chat/*/copies/*")]
    assert {"pretrain", "sft", "reward_model", "splits"} <= set(jobs)  # the gpu worker fetched its inputs from S3


def test_cancel_in_the_middle_of_training_leaves_no_rank(stack: Stack) -> None:
    asked = time.time()
    run = stack.create("full_pipeline/production", recipe=recipe("pretrain.seed=2", "pretrain.steps=2000"))
    training = child(stack, run, "training")
    until(lambda: step(stack, "pretrain", asked) > 3, "pretraining never began", 5 * MINUTES)
    assert ranks(stack.folder)
    cancelled = time.monotonic()
    stack.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    until(lambda: not ranks(stack.folder), "ranks outlive the cancelled run", 60)
    print(f"cancel to the last rank gone: {time.monotonic() - cancelled:.1f} s")
    assert ended(stack, run, 3)["type"] == "CANCELLED"
    assert ended(stack, training["id"], 3)["type"] == "CANCELLED"


@pytest.mark.parametrize("manner", ["killed rank", "timeout"])
def test_a_job_that_ends_badly_fails_the_run_with_its_reason(stack: Stack, manner: str) -> None:
    asked = time.time()
    limit = ["pretrain.launch.timeout_seconds=15"] if manner == "timeout" else []
    run = stack.create("full_pipeline/production", recipe=recipe("pretrain.seed=3", "pretrain.steps=2000", *limit))
    child(stack, run, "training")
    until(lambda: step(stack, "pretrain", asked) > 3, "pretraining never began", 5 * MINUTES)
    if manner == "killed rank":
        ranks(stack.folder)[-1].kill()
    failed = ended(stack, run, 5)
    assert failed["type"] == "FAILED" and "training" in failed["message"]
    assert ("launch.timeout_seconds = 15" if manner == "timeout" else "the job") in failed["message"]
    assert not ranks(stack.folder)


@pytest.mark.parametrize("manner", ["kill -9", "stop"])
def test_lost_worker_is_noticed_and_its_training_goes_on(stack: Stack, manner: str) -> None:
    """kill -9 of the gpu worker and all below it, or its own stop: the child is marked Crashed, another worker continues its training."""
    asked = time.time()
    run = stack.create("full_pipeline/production", recipe=recipe(f"pretrain.seed={4 if manner == 'stop' else 6}", "pretrain.steps=150"))
    training = child(stack, run, "training")
    until(lambda: step(stack, "pretrain", asked) > 20, "pretraining never began", 5 * MINUTES)
    worker = stack.processes.pop("gpu-worker")
    if manner == "stop":
        worker.terminate()
    else:
        for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
            if process.is_running():
                os.kill(process.pid, signal.SIGKILL)
    lost = time.monotonic()
    until(lambda: not ranks(stack.folder), f"ranks outlive the worker ({manner})", 60)
    print(f"{manner} of the worker to the last rank gone: {time.monotonic() - lost:.1f} s")
    worker.wait(timeout=60)
    assert ended(stack, training["id"], 4)["type"] == "CRASHED"
    print(f"{manner} of the worker to Crashed: {time.monotonic() - lost:.0f} s")
    stack.worker("gpu")
    assert ended(stack, run)["type"] == "COMPLETED", stack.state(run)


def test_a_person_is_asked_before_ppo_and_before_publishing(stack: Stack) -> None:
    """Suspended without a process, resumed through the API by another one; a refusal ends the run and publishes nothing."""
    asking = recipe("approve_before=[ppo, publish]", "ppo.seed=9", "publish={name: e2e}")  # a PPO that nobody has made
    first = stack.create("full_pipeline/production", recipe=asking)
    stack.reaches(first, "PAUSED")
    stack.answer(first, approve=True, note="the reward model is right")
    assert approved(stack, first, "ppo: approved: the reward model is right")
    stack.reaches(first, "PAUSED")
    stack.answer(first, approve=False, note="not this week")
    state = stack.reaches(first, "CANCELLED")
    assert (state["name"], state["message"]) == ("Refused", "publish was refused: not this week")
    assert service(stack, "e2e") is None


def approved(stack: Stack, run: str, words: str) -> bool:
    """The flow has said so in its log; lines arrive late."""
    lines = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    return bool(until(lambda: any(words in line["message"] for line in stack.call("POST", "/logs/filter", lines)), f"never said: {words}", 5 * MINUTES))


def service(stack: Stack, name: str) -> Any:
    asking = f"import json; from tasks.store.artifacts import Store; print(json.dumps(Store('s3://artifacts/store').read_note('published/{name}')))"
    done = stack.python("-c", asking)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_two_pipelines_at_once_and_a_restarted_server_lose_nothing(stack: Stack) -> None:
    changed = recipe("seed=5", "selection.seed=5")
    first, second = (stack.create("full_pipeline/production", recipe=changed) for _ in range(2))
    child(stack, first, "training")
    stack.stop("server")
    time.sleep(3)
    stacks.start_server(stack)
    assert [ended(stack, run)["type"] for run in (first, second)] == ["COMPLETED", "COMPLETED"]
    made = stages_made(stack, [first, second])
    assert {"pretrain", "sft", "reward_model", "ppo", "evaluation", "report"} <= set(made)
    assert set(made.values()) == {1}, made  # the one makes it, the other waits and reuses it


def stages_made(stack: Stack, runs: list[str]) -> Counter[str]:
    """How often each stage was made (not Reused, not Missing) by the runs and by those that they started."""
    body = {"flow_runs": {"parent_flow_run_id": {"any_": runs}}}
    started = [one["id"] for one in stack.call("POST", "/flow_runs/filter", body)]
    tasks: list[dict[str, Any]] = []
    while page := stack.call("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [*runs, *started]}}, "limit": 200, "offset": len(tasks)}):
        tasks += page
    own = [one for one in tasks if not one["state"]["state_details"]["child_flow_run_id"] and "· worker" not in one["name"]]
    return Counter(one["name"].partition(" · ")[0] for one in own if one["state"]["name"] == "Completed")
