"""Jobs are owned: the reason of a failure reaches the caller, and no process is left behind, however the end comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks import jobs
from tasks.jobs import JobFailed, Limits, environment, explain, run_job

LIMITS = Limits(total=60, silence=60)


def script(folder: Path, body: str) -> list[str]:
    path = folder / "job.py"
    path.write_text("import json, os, subprocess, sys, time\n" + textwrap.dedent(body))
    return [sys.executable, "-u", str(path)]


def run(folder: Path, body: str, limits: Limits = LIMITS) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    run_job(script(folder, body), folder / "job.log", folder / "metrics.jsonl", dict(os.environ), limits, seen.append)
    return seen


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that carry `mark` on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_metrics_and_log_arrive(tmp_path: Path) -> None:
    seen = run(
        tmp_path,
        f"""
        with open({str(tmp_path / "metrics.jsonl")!r}, "a") as stream:
            for step in (1, 2):
                print(json.dumps({{"step": step, "steps": 2, "loss": 1 / step}}), file=stream, flush=True)
        print("all well")
        """,
    )
    assert [line["loss"] for line in seen] == [1.0, 0.5]
    assert "all well" in (tmp_path / "job.log").read_text()


def test_failure_quotes_the_lines_that_explain_it(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"exit status 1[\s\S]*ValueError: the vocabulary is empty"):
        run(tmp_path, "print('step 1')\nraise ValueError('the vocabulary is empty')")


def test_a_signal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="SIGKILL"):
        run(tmp_path, "os.kill(os.getpid(), 9)")


def test_nan_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="NaN as loss at step 7"):
        run(
            tmp_path,
            f"""
            with open({str(tmp_path / "metrics.jsonl")!r}, "a") as stream:
                print(json.dumps({{"step": 7, "steps": 9, "loss": float("nan")}}), file=stream, flush=True)
            time.sleep(60)
            """,
        )


def test_of_a_silent_job_it_is_said_where_its_processes_stand(tmp_path: Path) -> None:
    """One hangs in a reward, its child cannot be asked, another was stopped."""
    body = """
        import faulthandler, signal
        subprocess.Popen(["sleep", "30"])
        os.kill(subprocess.Popen(["sleep", "30"]).pid, signal.SIGSTOP)
        faulthandler.register(signal.SIGUSR1, all_threads=False)
        def slow_reward():
            time.sleep(30)
        def score():
            slow_reward()
        score()
        """
    with pytest.raises(JobFailed, match=r'silence_seconds = 1; process \d+ is at File ".*job.py", line \d+ in slow_reward, called by .* in score, ') as failed:
        run(tmp_path, body, Limits(total=60, silence=1))
    assert str(failed.value).count("is at") == 1 and str(failed.value).count("is stopped (SIGSTOP)") == 1


@pytest.mark.parametrize(("limits", "message"), [(Limits(1, 60), "timeout_seconds"), (Limits(60, 1), "silence_seconds")])
def test_a_hanging_job_is_ended_with_all_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, message: str
) -> None:
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.5)
    mark = f"mark-{tmp_path.name}-{os.getpid()}"
    body = f"""
        child = [sys.executable, "-c", "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)", {mark!r}]
        subprocess.Popen(child, start_new_session=True)
        subprocess.Popen(child)
        time.sleep(99)
        """
    with pytest.raises(JobFailed, match=message):
        run(tmp_path, body, limits)
    assert not marked(mark)


def test_killed_owner_takes_its_job_along(tmp_path: Path) -> None:
    """kill -9 of the process that owns a job: the kernel tells the job."""
    mark = f"mark-{tmp_path.name}-{os.getpid()}"
    owner = tmp_path / "owner.py"
    owner.write_text(
        textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        from tasks.jobs import Limits, run_job
        here = Path({str(tmp_path)!r})
        run_job([sys.executable, "-c", "import time; time.sleep(99)", {mark!r}], here / "log", here / "metrics", dict(os.environ), Limits(60, 60))
        """)
    )
    process = subprocess.Popen([sys.executable, str(owner)])
    deadline = time.monotonic() + 30
    while not marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not marked(mark)


def test_no_secret_reaches_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_API_KEY", "hunter2")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    assert "hunter2" not in " ".join(environment(1, None).values())


def test_the_hubs_token_reaches_the_job_that_reads_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "of the hub")
    assert environment(1, None)["HF_TOKEN"] == "of the hub"


@pytest.mark.parametrize("reason", ["error: reward x: 16 finite numbers were expected", "KeyError: 'boom'"])
def test_explain_takes_the_reason_of_the_rank_that_failed_and_not_what_the_others_say_of_it(tmp_path: Path, reason: str) -> None:
    lost = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1449. This is typically caused by"
    log = tmp_path / "log"
    log.write_text(f"step 3\n{reason}\nTraceback (most recent call last):\n  File x, in all_reduce\n{lost}\n")
    assert explain(log).splitlines()[:2] == ["step 3", reason] and lost not in explain(log)
    log.write_text(f"step 3\n{lost}\n")  # there is nothing better
    assert explain(log).splitlines()[-1] == lost


def test_explain_prefers_the_error_to_what_follows_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("step 3\nTraceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA out of memory\n[INFO] [launch.py] Killing subprocess 7\n")
    assert explain(log).splitlines()[-1] == "torch.OutOfMemoryError: CUDA out of memory"
