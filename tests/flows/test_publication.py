"""A model's way into service on a real store: published with its card, held against the one there, brought back, talked to, served."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from flows import evaluation as compare_command
from flows import publish as publish_command
from tasks.publishing import Entry, history, in_service
from tasks.serving import served
from tasks.store.artifacts import Store
from tests.conftest import ROOT
from tests.flows import browser
from tests.flows.person import environment, run
from tests.tasks.reporting.looking import DESKTOP, PHONE, look

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
NEARER = "publish={measures: [{figure: ppo.kl, better: lower}]}"  # what more or less of PPO decides, however little was trained


@dataclass(frozen=True)
class Service:
    store: Store
    said: list[str]  # by each run
    first: Entry
    second: Entry

    def report(self) -> Path:
        return Path(self.store.url) / "reports" / "tiny"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Service:
    """Three runs: the first is published, the second replaces it, the third is refused."""
    folder = tmp_path_factory.mktemp("store")
    said, entries = [], []
    for rate in ("3e-4", "1e-7", "3e-3"):
        done = run(folder, home, "--set", f"ppo.optimizer.learning_rate={rate}", "--set", NEARER)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        said.append(done.stdout + done.stderr)
        entries.append(in_service(Store(str(folder)), "chat"))
    assert entries[0] and entries[1] and entries[2] == entries[1]
    return Service(Store(str(folder)), said, entries[0], entries[1])


def answers(service: Service, entry: Entry) -> list[dict[str, Any]]:
    """What the evaluation of that run says that its model answers."""
    evaluation = next(given for given in service.store.manifest(entry.report).inputs.values() if given.stage == "evaluation")
    found = service.store.find("evaluation", evaluation.fingerprint)
    assert found
    lines = [json.loads(line) for line in (service.store.local(found) / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["model"] == "ppo" and line["text"]]


def test_the_gate_lets_the_nearer_one_in_and_says_why_not(service: Service) -> None:
    kl = [entry.figures["ppo.kl"] for entry in (service.first, service.second)]
    assert kl[1] < kl[0]
    assert "is in service as chat" in service.said[0] and "nothing in service: passed" not in service.said[1]
    assert f"against {kl[0]:.4g} in service" in service.said[1] and "passed" in service.said[1]
    assert f"against {kl[1]:.4g} in service" in service.said[2] and "not enough" in service.said[2] and "stays out of service" in service.said[2]
    assert [entry.model for entry in history(service.store, "chat")] == [service.first.model]


def test_each_published_model_has_its_card(service: Service) -> None:
    for entry in (service.first, service.second):
        card = ModelCard.load(Path(entry.folder) / "README.md")
        figures = json.loads((service.store.local(entry.report) / "figures.json").read_text())
        results = {result.metric_type: result.metric_value for result in card.data.eval_results or []}
        assert (card.data.license, sorted(card.data.language)) == ("apache-2.0", ["en", "zh"])
        assert results["exact_match"] == pytest.approx(figures["ppo"]["exact_match"], abs=1e-4)
        assert results["win_rate"] == pytest.approx(figures["ppo"]["win_rate"], abs=1e-4)
        assert entry.model.fingerprint[:10] in card.text and "380 of 652 crawled documents" in card.text
        for warning in figures["warnings"]:
            assert warning[:20].replace("_", "\\_") in card.text


def test_the_one_in_service_and_the_one_before_are_compared(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [f"report/{entry.report.fingerprint}" for entry in (service.first, service.second)]
    status = compare_command.main(["--store", service.store.url, "--compare", *both, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    rows = {row["figure"]: row for row in json.loads((tmp_path / "comparison.json").read_text())["rows"]}
    assert status == ("significantly worse" in said) == any(row["verdict"] == "worse" for row in rows.values())
    # What both runs share cannot differ; what PPO decides is tested item by item.
    assert rows["sft.exact_match"]["difference"]["test"] == "no item differs" and rows["pretrain.language_model.all.bits_per_byte"]["verdict"] == "no difference shown"
    for figure in ("ppo.exact_match", "ppo.reward", "ppo.win_rate", "ppo.language_model.all.bits_per_byte", "ppo.knowledge.valley_zh.accuracy"):
        row = rows[figure]
        assert row["difference"]["value"] == pytest.approx(row["new"] - row["old"], abs=1e-4) and row["p_adjusted"] <= 1
    assert "ppo.reward" in (tmp_path / "comparison.svg").read_text()


def test_the_chat_says_what_the_evaluation_saw(service: Service, home: Path) -> None:
    line = answers(service, service.second)[0]
    command = [sys.executable, "-m", "rlhf_core.chat", service.second.folder, "--max-new-tokens", "40", "--threads", "1"]
    done = subprocess.run(command, input=line["prompt"] + "\n", cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith(line["text"]), (done.stdout, done.stderr[-2000:], line["text"])


def test_transformers_serve_says_it_too(service: Service, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai", reason="the extra `serve` is not installed")
    with served(service.second.folder, tmp_path / "serve.log") as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", timeout=120)
        for line in answers(service, service.second)[:3]:
            asked = [{"role": "user", "content": line["prompt"]}]
            whole = client.chat.completions.create(model=server.model, messages=asked, max_tokens=40)
            assert whole.choices[0].message.content.strip() == line["text"]


@pytest.mark.skipif(not browser.CHROMIUM, reason="not installed: chromium")
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_runs_report_can_be_read(service: Service, tmp_path: Path, width: int) -> None:
    page = service.report() / "report.html"
    assert page.stat().st_size < 3_000_000
    seen = look(page, tmp_path, width)
    assert (seen.requests, seen.errors, seen.cut, seen.unnamed, seen.beyond) == ([], [], [], 0, [])
    assert seen.width == width and seen.letters >= 9 and seen.pictures > 20 and seen.contrast >= 4.5


def test_the_one_before_comes_back_by_command(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Last: it changes what is in service."""
    assert publish_command.main(["--store", service.store.url]) == 0
    assert service.second.folder in capsys.readouterr().out.splitlines()[0]
    assert publish_command.main(["--store", service.store.url, "--restore", "chat"]) == 0
    assert in_service(service.store, "chat") == service.first and service.first.folder in capsys.readouterr().out
    assert (Path(service.first.folder) / "README.md").is_file()
    assert publish_command.main(["--store", service.store.url, "--restore", "chat"]) == 2
