"""What every command refuses in the same way, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import evaluation, full_pipeline, housekeeping, prune, publish, retrain, sweep


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


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(publish.main, []), (publish.main, ["--restore", "chat"]), (prune.main, ["--older-than", "1"]), (prune.main, ["--older-than", "1", "--here", "--yes"])],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_command_that_looks_at_a_store_makes_none(
    main: Callable[[list[str]], int], arguments: list[str], scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt name had nothing in service and nothing to prune, and was a store from then on."""
    assert main(["--store", f"{scheme}{tmp_path / 'stroe'}", *arguments]) == 2
    assert capsys.readouterr() == ("", f"error: there is no store {tmp_path / 'stroe'}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("main", [prune.main, housekeeping.main])
@pytest.mark.parametrize("days", ["-3", "nan", "1e300", "soon"])
def test_a_wrong_number_of_days_is_one_line(main: Callable[[list[str]], int], days: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Artifacts `older than -3 days` were all but those that a service keeps, a running pipeline's among them."""
    with pytest.raises(SystemExit) as refusal:
        main([f"--{'older-than' if main is prune.main else 'keep-days'}", days])
    assert refusal.value.code == 2
    assert f"a number of days from 0 to 36,500 is needed (given: {days})" in capsys.readouterr().err


def test_housekeeping_says_which_server_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(SystemExit):
        housekeeping.main([])
    assert "no Prefect server answers at http://127.0.0.1:9/api" in capsys.readouterr().err
