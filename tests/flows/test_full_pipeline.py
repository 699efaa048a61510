"""The whole way, as a person runs it: the command line, on the bundled samples, with few steps."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from data.shards import list_shards
from flows import steps
from flows.full_pipeline import crawl_to_model, full_pipeline, main
from flows.place import PartFailed
from flows.recipe_file import load
from flows.retrain import NOTHING_NEW, retrain
from tasks.stage import Run
from tests.conftest import ROOT
from tests.flows.person import FEW_STEPS, FIGURES, command, environment, ranks, run, table


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, home: Path) -> tuple[Path, str]:
    """Store and output of a whole run."""
    store = tmp_path_factory.mktemp("store")
    done = run(store, home)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return store, done.stdout


@pytest.fixture(scope="module")
def report(first: tuple[Path, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((first[0] / "reports" / "tiny" / "report.json").read_text())
    return found


@pytest.mark.timeout(900)
def test_every_stage_is_made_and_the_report_names_it(first: tuple[Path, str], report: dict[str, Any]) -> None:
    stages = table(first[1])
    assert set(stages.values()) == {"made"}
    assert list(stages) == [stage["name"] for stage in report["stages"]]
    assert list(stages)[-7:] == ["pretrain", "sft", "reward_model", "ppo", "evaluation", "judgement", "report"]
    for stage in report["stages"]:
        assert (Path(stage["artifact"]) / "manifest.json").exists() and stage["seconds"] >= 0 and not stage["reused"]


def test_report_holds_the_figures(report: dict[str, Any]) -> None:
    corpus = report["corpus"]
    assert corpus["documents_in"] == corpus["kept"] + sum(corpus["dropped"].values())
    assert corpus["cleaning_precision"] >= 0.95 and corpus["cleaning_recall"] >= 0.95
    for stage, figures in FIGURES.items():
        assert all(isinstance(report[stage][figure], float) for figure in figures), (stage, report[stage])


def test_page_stands_alone(first: tuple[Path, str]) -> None:
    page = (first[0] / "reports" / "tiny" / "report.html").read_text()
    assert "<svg" in page and "blocked_host" in page
    assert 'src="http' not in page and "<script" not in page and 'href="http' not in page.replace('xlink:href="#', "")


def test_lineage_leads_back_to_the_crawl(first: tuple[Path, str], report: dict[str, Any]) -> None:
    from tasks.store.artifacts import Artifact, Store

    store = Store(str(first[0]))
    ppo = next(stage for stage in report["stages"] if stage["name"] == "ppo")
    lineage = store.lineage(Artifact(stage="ppo", fingerprint=Path(ppo["artifact"]).name, url=ppo["artifact"]))
    ingested = [manifest for name, manifest in lineage.items() if name.startswith("ingest/")]
    assert len(ingested) == 1 and "crawl" in (ingested[0].inputs["crawl_0"].path or "")
    assert {name.split("/")[0] for name in lineage} >= {"corpus", "tokenizer", "pretrain", "sft", "reward_model", "splits"}


@pytest.mark.timeout(300)
def test_models_open_without_this_project(first: tuple[Path, str], report: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folders = {stage["name"]: Path(stage["artifact"]) / "model" for stage in report["stages"]}
    tokenizer = AutoTokenizer.from_pretrained(folders["ppo"])
    model = AutoModelForCausalLM.from_pretrained(folders["ppo"])
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert model.generate(**ids, max_new_tokens=3).shape[1] > ids["input_ids"].shape[1]
    assert AutoModelForSequenceClassification.from_pretrained(folders["reward_model"]).config.num_labels == 1


@pytest.mark.timeout(600)
def test_nothing_changed_is_all_reused_and_a_change_runs_only_what_depends_on_it(
    first: tuple[Path, str], home: Path, prefect_server: str
) -> None:
    store, _ = first
    again = run(store, home, server=prefect_server)
    assert again.returncode == 0 and set(table(again.stdout).values()) == {"reused"}
    stages = json.loads((store / "reports" / "tiny" / "report.json").read_text())["stages"]
    assert all(stage["reused"] for stage in stages)
    changed = run(store, home, "--set", "selection.keep_duplicates=true", "--until", "corpus", server=prefect_server)
    made = [name for name, how in table(changed.stdout).items() if how == "made"]
    assert made == ["corpus"]
    forced = run(store, home, "--force", "quality", "--until", "lines", server=prefect_server)
    assert [name for name, how in table(forced.stdout).items() if how == "made"] == ["quality"]


def test_no_worker_is_asked_for_what_lies_in_the_store(first: tuple[Path, str], prefect_server: str) -> None:
    """The deployments named here do not exist: a part that had to be made there would fail."""
    run = Run(store=str(first[0]), gpu="gpu")
    made = full_pipeline(load("tiny", FEW_STEPS), run)
    assert isinstance(made, dict)
    assert list(made)[-1] == "report" and all(one.reused for one in made.values())
    with pytest.raises(PartFailed, match="no deployment training/gpu"):
        full_pipeline(load("tiny", [*FEW_STEPS, "sft.seed=9"]), run)


@pytest.mark.parametrize("alone", ["corpus", "instructions", "training", "evaluation"])
def test_every_part_can_be_run_alone(first: tuple[Path, str], prefect_server: str, alone: str) -> None:
    """As its deployment runs it: with what comes before it, which lies in the store."""
    part = importlib.import_module(f"flows.{alone}")
    recipe, run = load("tiny", FEW_STEPS), Run(store=str(first[0]))
    made = part.pipeline(recipe, run, {})
    assert list(made)[-1] == list(part.steps(recipe, run))[-1] and all(one.reused for one in made.values())


def test_retraining_goes_the_whole_way_and_remembers_the_crawl(first: tuple[Path, str], prefect_server: str) -> None:
    recipe, run = load("tiny", FEW_STEPS), Run(store=str(first[0]))
    made = retrain(recipe, run)
    assert isinstance(made, dict) and list(made)[-1] == "report"
    again = retrain(recipe, run, return_state=True)
    assert again.name == NOTHING_NEW and "3 lie there" in (again.message or "")


@pytest.mark.timeout(900)
def test_killed_flow_and_killed_rank_are_gone_and_resumed_to_the_same_numbers(
    first: tuple[Path, str], report: dict[str, Any], home: Path, prefect_server: str, tmp_path: Path
) -> None:
    """kill -9 of the flow in the middle of pretraining, then of a rank: the next run ends where an unbroken one does.

    The second attempt runs under DeepSpeed's own launcher, the others under forks: it is the same job.
    """
    store = tmp_path / "store"
    shutil.copytree(first[0], store, ignore=shutil.ignore_patterns("corpus", "pretrain", "sft", "reward*", "ppo", "evaluation", ".work"))
    arguments, surroundings = command(store, "--until", "pretrain"), environment(home, prefect_server)
    flow = subprocess.Popen(arguments, cwd=ROOT, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _until_step(store, 5)
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    _until(lambda: not ranks(store), "ranks outlive their killed flow")

    by_deepspeed = [*arguments, "--set", "pretrain.launch.launcher=deepspeed"]
    flow = subprocess.Popen(by_deepspeed, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _until_step(store, 42)  # further than the killed attempt can have come
    for rank in ranks(store):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended with the one before
            rank.kill()
    _, errors = flow.communicate(timeout=300)
    assert flow.returncode == 1
    assert re.search(r"error: the job (ended with exit status|was ended by)", errors), errors[-2000:]
    assert not ranks(store)

    done = run(store, home, "--until", "pretrain", server=prefect_server)
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = json.loads(next(store.glob("pretrain/*/summary.json")).read_text())
    for figure in ("loss", "perplexity", "bits_per_byte"):
        assert resumed[figure] == pytest.approx(report["pretrain"][figure], rel=1e-6)
    unbroken = next(Path(stage["artifact"]) for stage in report["stages"] if stage["name"] == "corpus")
    assert _bytes(next(store.glob("corpus/*"))) == _bytes(unbroken)


def _bytes(corpus: Path) -> list[bytes]:
    return [shard.read_bytes() for shard in list_shards(corpus / "documents")]


def test_a_stage_that_is_none_is_refused_by_the_flow_itself(tmp_path: Path) -> None:
    """A deployment's form reads no command line: with an `until` that is never reached the run went to its end, and published."""
    asked = Run(store=str(tmp_path), force=frozenset({"everything"}))
    with pytest.raises(ValueError, match=r"until: no stage 'pretraining'; stages: ingest, .*; force: no stage 'everything'"):
        crawl_to_model(load("tiny"), asked, "pretraining")
    with pytest.raises(ValueError, match="until: no stage 'pretraining'; stages: ingest, urls"):
        steps.walk(asked, {"ingest": Mock(), "urls": Mock()}, {}, "pretraining")  # a part that is deployed alone
    with pytest.raises(ValueError, match="force: no stage 'everything'; stages: ingest, urls"):
        steps.walk(asked, {"ingest": Mock(), "urls": Mock()}, {}, None)


def _until_step(store: Path, step: int) -> None:
    def reached() -> bool:
        for metrics in store.glob(".work/pretrain-*/work/output/metrics.jsonl"):
            lines = [line for line in metrics.read_text().splitlines() if line.endswith("}")]
            return bool(lines and ranks(store)) and json.loads(lines[-1])["step"] >= step
        return False

    _until(reached, f"pretraining never reached step {step}")


def _until(condition: Any, complaint: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "huge"], "no recipe 'huge'; bundled:"),
        (["--set", "ppo.kl_koef=1"], "ppo.kl_koef: unknown key (did you mean 'kl_coef'?)"),
        (["--set", "splits.eval_share=2"], "splits.eval_share"),
        (["--corpus", "/nowhere/*.warc.gz"], "corpus: no such file, folder or glob: /nowhere/*.warc.gz"),
        (["--until", "pretraining"], "--until: no stage 'pretraining'; stages: ingest, urls"),
        (["--force", "everything"], "--force: no stage 'everything'"),
    ],
)
def test_wrong_calls_are_refused_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--store", str(tmp_path / "store"), *arguments])
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_help_explains_itself(tmp_path: Path, home: Path) -> None:
    done = run(tmp_path / "store", home, "--help", steps=[])
    assert done.returncode == 0
    for option in ("--recipe", "--set", "--store", "--corpus", "--seed-tasks", "--preferences", "--until", "--force"):
        assert option in done.stdout
