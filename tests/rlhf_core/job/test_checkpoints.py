from __future__ import annotations

from pathlib import Path

import torch

from rlhf_core.engine import Ranks
from rlhf_core.job.checkpoints import Checkpoints

ALONE = Ranks(0, 1, torch.device("cpu"))


def save(checkpoints: Checkpoints, step: int) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(bytes([step]) * 1000)

    checkpoints.save(step, write, {"at": step}, [])


def resumed(checkpoints: Checkpoints, broken: tuple[int, ...] = ()) -> tuple[int, dict[str, int]]:
    def read(folder: Path) -> None:
        if int(folder.name[5:]) in broken:
            raise OSError("torch could not read it")

    step, state, _ = checkpoints.resume(read)
    return step, state


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    assert resumed(checkpoints) == (0, {})
    for step in (5, 10, 15):
        save(checkpoints, step)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000015",
    ]
    assert resumed(checkpoints) == (15, {"at": 15})


def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    save(checkpoints, 5)
    save(checkpoints, 10)
    damaged = tmp_path / "checkpoints" / "step-00000010" / "weights"
    content = bytearray(damaged.read_bytes())
    content[500] ^= 1
    damaged.write_bytes(content)
    assert resumed(checkpoints) == (5, {"at": 5})


def test_one_without_its_marker_or_that_cannot_be_loaded_is_not_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    save(checkpoints, 5)
    save(checkpoints, 10)
    assert resumed(checkpoints, broken=(10,)) == (5, {"at": 5})
    (tmp_path / "checkpoints" / "step-00000005" / "complete.json").unlink()
    assert resumed(checkpoints) == (0, {})


def test_another_job_does_not_resume_it(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, "job", ALONE), 5)
    assert resumed(Checkpoints(tmp_path, "other settings", ALONE)) == (0, {})
