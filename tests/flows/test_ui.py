"""What a person sees: headless Chromium logs in to a real server and reads the run, its artifacts and the deployment's form.

`CRAWL2CHAT_PICTURES=docs pytest -m slow tests/flows/test_ui.py` keeps the pictures that README shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flows import browser, person
from tests.flows import stack as stacks
from tests.flows.browser import Page
from tests.flows.stack import Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.skipif(not browser.CHROMIUM, reason="not installed: chromium")]
STEPS = ["pretrain.steps=40", "pretrain.eval_steps=20", "pretrain.launch.ranks=1"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server behind a password, on which the pipeline has run to its first model."""
    with stacks.small(tmp_path_factory.mktemp("ui")) as stack:
        line = person.command(stack.folder / "store", "--until", "pretrain", steps=STEPS)
        done = subprocess.run(line, cwd=ROOT, env=stack.environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        yield stack


@pytest.fixture
def page(served: Stack, tmp_path: Path) -> Iterator[Page]:
    """A tab of a person who has just logged in, by the login page's own form."""
    with browser.page(tmp_path / "chromium") as page:
        page.open(home(served))
        page.type("input[type=password]", served.environment["PREFECT_API_AUTH_STRING"])
        page.click("Login")
        page.shows("Dashboard", "Work Pools", "Logout")
        yield page


def home(stack: Stack) -> str:
    return stack.environment["PREFECT_API_URL"].removesuffix("/api")


def run_of(stack: Stack, flow: str) -> str:
    return str(stack.call("POST", "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})[0]["id"])


def artifact(stack: Stack, key: str) -> str:
    return str(stack.call("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})[0]["id"])


def keep(page: Page, name: str, tmp_path: Path) -> None:
    """The picture shows something, is small enough for a README, and stays where the caller wants it."""
    picture = tmp_path / f"{name}.png"
    page.picture(picture)
    assert 20_000 < picture.stat().st_size < 300_000, picture.stat().st_size
    if folder := os.environ.get("CRAWL2CHAT_PICTURES"):
        Path(folder).mkdir(exist_ok=True)
        shutil.copy(picture, Path(folder) / picture.name)


def test_a_stranger_sees_nothing(served: Stack, tmp_path: Path) -> None:
    with browser.page(tmp_path / "chromium") as page:
        page.open(f"{home(served)}/v2/runs/flow-run/{run_of(served, 'full_pipeline')}")
        assert "tiny" not in page.shows("Login")


def test_the_run_tells_its_stages(served: Stack, page: Page, tmp_path: Path) -> None:
    page.open(f"{home(served)}/v2/runs/flow-run/{run_of(served, 'full_pipeline')}?tab=SubflowRuns")
    page.shows("tiny", "Completed", "full_pipeline", "corpus · tiny", "instructions · tiny", "training · tiny")
    keep(page, "run", tmp_path)
    page.open(f"{home(served)}/v2/runs/flow-run/{run_of(served, 'training')}?tab=TaskRuns")
    text = page.shows("training · tiny", "Parent Run", "tokenizer")
    assert re.search(r"pretrain · 0\.\d+M · 1 rank", text)


def test_the_drop_table_gives_reasons_with_shares(served: Stack, page: Page, tmp_path: Path) -> None:
    page.open(f"{home(served)}/v2/artifacts/artifact/{artifact(served, 'corpus')}")
    text = page.shows("dropped because", "near_duplicate", "sensitive_content", "cleaning_precision", "Made from:")
    assert re.search(r"near_duplicate\s+\d+\s+\d+\.\d%", text)
    keep(page, "drops", tmp_path)


def test_the_way_from_crawl_to_model_is_one_page(served: Stack, page: Page, tmp_path: Path) -> None:
    page.open(f"{home(served)}/v2/artifacts/artifact/{artifact(served, 'stages')}")
    text = page.shows("19 stages made, 0 reused", "ingest", "pretrain")
    for stage in ("ingest", "corpus", "tokenizer", "pretrain"):
        [made] = (served.folder / "store" / stage).iterdir()
        assert made.name in text
    wanted = {f"{home(served)}/v2/artifacts/key/{key}" for key in ("ingest", "rough-language", "pretrain")}
    links = "[...document.querySelectorAll('a')].map(one => one.href)"
    until(lambda: wanted <= set(page.ask(links)), f"not linked: {wanted}", 30)  # a busy browser shows the words first
    keep(page, "stages", tmp_path)


def test_curves_are_a_picture_and_progress_is_a_line(served: Stack, page: Page, tmp_path: Path) -> None:
    page.open(f"{home(served)}/v2/artifacts/artifact/{artifact(served, 'pretrain-curves')}")
    page.shows("pretrain: loss")
    width = "(document.querySelector('main img, img[src^=data]') || {}).naturalWidth"
    assert until(lambda: page.ask(width), "no picture was drawn", 30) > 300
    keep(page, "curves", tmp_path)
    page.open(f"{home(served)}/v2/artifacts/artifact/{artifact(served, 'pretrain-progress')}")
    assert re.search(r"40/40 · .*loss \d", page.shows("Progress: 100%", "40/40"))


def test_the_form_explains_its_fields(served: Stack, page: Page, tmp_path: Path) -> None:
    deployment = served.call("GET", "/deployments/name/full_pipeline/production")["id"]
    page.open(f"{home(served)}/v2/deployments/deployment/{deployment}/run")
    page.shows("Parameters", "Shard groups at the same time.", "Threads or processes of this machine", "The seed of every stage")
    values = page.ask("[...document.querySelectorAll('input, textarea')].map(one => one.value)")
    assert "tiny" in values and any(str(value).endswith("seed_tasks.jsonl") for value in values)  # filled with the recipe's own
    keep(page, "form", tmp_path)
