"""What a server that stays does with the deployments: events that start runs, secrets from its blocks, runs that never began, a search."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from flows.recipe_file import load
from tests.flows import stack as stacks
from tests.flows.stack import Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SAVE_SECRET = "from prefect.blocks.system import Secret; Secret(value='hunter2').save('store-key', overwrite=True)"
INSTALL_IMPATIENT = """
from prefect import get_client
from flows import automations
automations.STARTING_SECONDS = 10
with get_client(sync_client=True) as client:
    automations.install(client)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server on SQLite with a password, the deployments, and a worker of pool cpu alone."""
    with stacks.small(tmp_path_factory.mktemp("served")) as stack:
        stack.worker("cpu")
        yield stack


def cancel(stack: Stack, run: str) -> None:
    stack.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    stack.reaches(run, "CANCELLED")


def test_a_new_corpus_starts_the_whole_pipeline(served: Stack) -> None:
    """The whole way by itself, to where it waits for a worker of pool gpu; a corpus that was there already starts nothing."""
    query = {"deployments": {"name": {"any_": ["on_new_corpus"]}}}
    assert served.call("POST", "/flow_runs/filter", query) == []
    recipe = load("tiny").model_dump(mode="json") | {"name": "other"}
    assert served.reaches(served.create("corpus/cpu", recipe=recipe), "COMPLETED")
    [started] = until(lambda: served.call("POST", "/flow_runs/filter", query), "no run was started", 60)
    assert (started["parameters"]["recipe"]["name"], started["parameters"]["run"]["gpu"]) == ("other", "gpu")  # its recipe, this deployment's place
    waiting = {"flow_runs": {"parent_flow_run_id": {"any_": [started["id"]]}}, "deployments": {"name": {"any_": ["gpu"]}}}
    [child] = until(lambda: served.call("POST", "/flow_runs/filter", waiting), "it never came to training", 300)
    assert child["name"] and child["state"]["type"] == "SCHEDULED"
    cancel(served, started["id"])
    assert served.state(child["id"])["type"] in ("CANCELLING", "CANCELLED")
    assert served.reaches(served.create("corpus/cpu", recipe=recipe), "COMPLETED")
    assert len(served.call("POST", "/flow_runs/filter", query)) == 1


def test_a_run_gets_its_secrets_from_blocks_and_nothing_else_shows_them(served: Stack) -> None:
    done = served.python("-c", SAVE_SECRET)
    assert done.returncode == 0, done.stderr[-2000:]
    done = served.python("-m", "flows.deploy", "--store", str(served.folder / "store"), "--secret", "STORE_KEY=store-key")
    assert done.returncode == 0, done.stderr[-2000:]
    run = served.create("housekeeping/daily")

    def seen() -> str | None:
        for process in served.engines("cpu-worker", run):
            with contextlib.suppress(psutil.Error):
                return process.environ().get("STORE_KEY", "none")
        return None

    assert until(seen, "no worker took the run", 120) == "hunter2"
    assert served.reaches(run, "COMPLETED")
    told = json.dumps([served.call("POST", "/deployments/filter", {}), served.call("GET", f"/flow_runs/{run}"), served.call("POST", "/logs/filter", {})])
    assert "prefect.blocks.secret.store-key" in told and "hunter2" not in told + served.log("cpu-worker")


def test_the_task_runs_of_a_lost_run_end_with_it(served: Stack) -> None:
    """Not when the day is over: its crash asks for the housekeeping."""

    def living() -> list[str]:
        found = served.call("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return [one["name"] for one in found if one["state_type"] in ("PENDING", "RUNNING")]

    run = served.create("corpus/cpu", recipe=load("tiny").model_dump(mode="json"), run={"store": str(served.folder / "lost")})
    until(living, "no task was begun", 180)
    for process in served.engines("cpu-worker", run):
        with contextlib.suppress(psutil.Error):
            process.kill()
    served.reaches(run, "CRASHED")
    until(lambda: not living(), "its task runs run for ever", 180)


def test_a_search_is_asked_for_in_the_form(served: Stack) -> None:
    recipe = load("tiny", ["pretrain.steps=2", "pretrain.eval_steps=2", "pretrain.launch.ranks=1"]).model_dump(mode="json")
    here: dict[str, Any] = {"store": str(served.folder / "store")}
    search = {"dimensions": [{"key": "pretrain.optimizer.learning_rate", "choices": ["1e-3", "2e-3"]}], "objective": "pretrain.loss", "better": "lower"}
    with pytest.raises(HTTPError) as refusal:
        served.create("sweep/search", recipe=recipe, run=here, search=search | {"sampler": "guessing"})
    assert refusal.value.code == 409 and "sampler" in refusal.value.read().decode()
    run = served.create("sweep/search", recipe=recipe, run=here, search=search | {"trials": 2, "sampler": "random"})
    assert served.reaches(run, "COMPLETED")
    note = json.loads((served.folder / "store" / "sweeps" / "tiny.json").read_text())
    assert [trial["outcome"] for trial in note["trials"]] == ["finished", "finished"]


def test_a_run_that_was_taken_and_never_begun_lets_its_slot_go(served: Stack) -> None:
    """As a worker leaves it that is lost between the two: no heartbeat ever came, and pool gpu has one slot. Last: this server stays impatient."""
    done = served.python("-c", INSTALL_IMPATIENT)
    assert done.returncode == 0, done.stderr[-2000:]
    run = served.create("training/gpu")
    served.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING", "name": "Pending"}})
    assert "never begun" in served.reaches(run, "CRASHED", seconds=120)["message"]
