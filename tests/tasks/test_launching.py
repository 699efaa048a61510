"""Forked jobs: ranks, exit statuses, what ends them, and that one launcher serves many jobs. No torch here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks import launching
from tasks.jobs import JobFailed, Limits, environment, run_job
from tasks.launching import Forked, Launcher

LIMITS = Limits(total=60, silence=60)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `small_job` beside its launcher, which imports nothing heavy."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launching, "_idle", [Launcher(environment(1, 1), ["json"])])
    yield tmp_path
    for launcher in launching._idle:
        launcher.close()


def run(folder: Path, body: str, ranks: int = 1, limits: Limits = LIMITS) -> str:
    (folder / "small_job.py").write_text(
        "import json, os, sys, time\ndef main():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    )
    run_job(Forked("small_job", folder / "job.json", ranks), folder / "log", folder / "metrics", environment(ranks, 1), limits)
    return (folder / "log").read_text()


def test_ranks_find_each_other_and_their_job(job: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    body = f"os.write(1, (json.dumps([sys.argv, [os.environ[n] for n in {names!r}]]) + chr(10)).encode())"
    lines = sorted(json.loads(line) for line in run(job, body, ranks=2).splitlines())
    path = str(job / "job.json")
    assert lines == [[["small_job", path], [str(r), str(r), "2", "2", "127.0.0.1"]] for r in (0, 1)]


def test_one_launcher_serves_job_after_job_each_with_its_own_environment(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = launching._idle[0]._process.pid
    body = "print(os.getppid(), os.environ['OMP_NUM_THREADS'], flush=True)"
    assert run(job, body) == f"{pid} 1\n"
    body += "\nreturn 3"
    with pytest.raises(JobFailed, match="exit status 3"):
        run(job, body)
    assert (job / "log").read_text() == f"{pid} 1\n" * 2
    assert launching._idle[0]._process.pid == pid


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("os.kill(os.getpid(), 9)", r"exit status 1[\s\S]*rank 1 was ended by SIGKILL \(the kernel does this when memory"),
        ("raise ValueError('the vocabulary is empty')", r"exit status 1[\s\S]*ValueError: the vocabulary is empty"),
        ("raise SystemExit(2)", "exit status 2"),
        ("sys.exit('error: in words')", r"exit status 1[\s\S]*error: in words"),
    ],
)
def test_a_dead_rank_ends_the_others_and_is_named(job: Path, end: str, message: str) -> None:
    body = f"if os.environ['RANK'] == '1':\n    {end}\ntime.sleep(99)"
    with pytest.raises(JobFailed, match=message):
        run(job, body, ranks=2)
    assert not psutil.Process(launching._idle[0]._process.pid).children(recursive=True)


def test_a_hanging_job_is_ended_and_the_launcher_is_used_again(job: Path) -> None:
    with pytest.raises(JobFailed, match="silence_seconds"):
        run(job, "time.sleep(99)", ranks=2, limits=Limits(60, 0.3))
    launcher = psutil.Process(launching._idle[0]._process.pid)
    assert not launcher.children(recursive=True)
    assert "still well" in run(job, "print('still well')")


def test_a_launcher_that_cannot_import_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_idle", [Launcher(environment(1, 1), ["no_such_module"])])
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        run(tmp_path, "pass")


def test_killed_owner_takes_launcher_and_job_along(job: Path) -> None:
    (job / "small_job.py").write_text("import time\ndef main():\n    print('at work', flush=True)\n    time.sleep(99)\n")
    owner = textwrap.dedent(f"""
        from pathlib import Path
        from tasks import launching
        from tasks.jobs import Limits, environment, run_job
        env = environment(2, 1)
        launching._idle.append(launching.Launcher(env, ["json"]))
        here = Path({str(job)!r})
        run_job(launching.Forked("small_job", here / "j", 2), here / "log", here / "metrics", env, Limits(60, 60))
        """)
    process = subprocess.Popen([sys.executable, "-c", owner])
    deadline = time.monotonic() + 30
    while (not (job / "log").exists() or (job / "log").read_text().count("at work") < 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 4  # launcher, leader, two ranks
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, family))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
