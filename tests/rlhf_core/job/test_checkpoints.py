from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlhf_core.engine import Ranks
from rlhf_core.job.checkpoints import Checkpoints
from rlhf_core.job.errors import TrainingFailed

ALONE = Ranks(0, 1, torch.device("cpu"))


def save(checkpoints: Checkpoints, step: int) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(bytes([step]) * 1000)

    checkpoints.save(step, write, {"at": step}, [])


def names(work: Path) -> list[int]:
    """The steps of the checkpoints that are there."""
    return sorted(int(path.name[5:]) for path in (work / "checkpoints").iterdir())


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
    assert names(tmp_path) == [10, 15]
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


def test_one_without_its_marker_is_not_used_and_goes_with_the_next_whole_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    for step in (5, 10, 15):
        save(checkpoints, step)
    marker = tmp_path / "checkpoints" / "step-00000015" / "complete.json"
    for content in (None, "", "[]", "{}"):  # killed while it was saved; or something else wrote there
        marker.unlink() if content is None else marker.write_text(content)
        assert resumed(checkpoints) == (10, {"at": 10})
    save(checkpoints, 12)  # saved at other steps from here on
    assert names(tmp_path) == [10, 12]


def test_one_that_cannot_be_loaded_is_passed_over_and_where_none_can_nothing_begins_on_what_was_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    save(checkpoints, 5)
    save(checkpoints, 10)
    assert resumed(checkpoints, broken=(10,)) == (5, {"at": 5})
    with pytest.raises(TrainingFailed, match=r"step-00000005 cannot be loaded: OSError.* remove .*checkpoints"):
        resumed(checkpoints, broken=(5, 10))
    assert resumed(checkpoints) == (10, {"at": 10})  # a disk that is read again has lost nothing


def test_too_little_memory_to_load_costs_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", ALONE)
    save(checkpoints, 5)
    save(checkpoints, 10)

    def read(folder: Path) -> None:
        torch.empty(2**60)

    with pytest.raises(RuntimeError, match="memory"):
        checkpoints.resume(read)
    assert resumed(checkpoints) == (10, {"at": 10})


def test_another_job_does_not_resume_it_and_keeps_its_own(tmp_path: Path) -> None:
    """Two ranks came to step 200 and were stopped; one rank begins anew in the same folder, and is stopped early."""
    before, after = Checkpoints(tmp_path, "two ranks", ALONE), Checkpoints(tmp_path, "one rank", ALONE)
    save(before, 100)
    save(before, 200)
    assert resumed(after) == (0, {})
    assert resumed(before) == (200, {"at": 200})  # nothing is lost by looking
    save(after, 2)
    assert resumed(after) == (2, {"at": 2})
    save(after, 4)
    assert names(tmp_path) == [2, 4]
