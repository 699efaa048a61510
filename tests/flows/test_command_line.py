"""What every command refuses in the same way, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows import evaluation, full_pipeline, prune, publish, retrain, sweep


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (full_pipeline.main, []),
        (retrain.main, []),
        (sweep.main, ["--objective", "sft.loss", "--search", "sft.batch_size=8,16"]),
        (publish.main, []),
        (publish.main, ["--restore", "chat"]),
        (prune.main, ["--older-than", "1"]),
        (evaluation.main, ["--compare", "one", "other"]),
    ],
)
def test_a_store_that_is_a_file_is_one_line(
    main: Callable[[list[str]], int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.write_text("")
    try:
        status = main(["--store", str(store), *arguments])
    except SystemExit as refusal:
        status = int(refusal.code or 0)
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1
    assert f"the store {store} needs {store}/.work, which cannot be made (Not a directory); name a folder" in said
