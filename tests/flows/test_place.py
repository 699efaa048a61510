"""A part that runs elsewhere: it ends with the run that waits for it, and its end is that run's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock, Mock

import pytest
from prefect import flow, get_client
from prefect.deployments import run_deployment
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed

from flows import corpus, instructions, place, training
from flows.recipe_file import load
from tasks.stage import Run
from tasks.stopping import STOPPED_EARLY, Poor, StopRule, medians

MISSING = {"sft": lambda made: SimpleNamespace(result=lambda: None)}


def elsewhere(store: Path) -> tuple[Any, Run]:
    """A part whose one step is not in the store, and a run that gives the part to another pool."""
    part = SimpleNamespace(__name__="flows.training", steps=lambda recipe, run: MISSING)
    return part, Run(store=str(store), gpu="elsewhere")  # a name of its own: the server is that of all tests


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_dying_run_takes_along_what_it_waits_for_if_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool) -> None:
    """A worker that stops sends the same signal; then the child goes on, and another worker's run finds what it made."""
    children: list[Any] = []
    passed_on: list[bool] = []  # what a flow asserts would end in its state

    @flow(name="training")
    def child() -> None: ...

    def killed(name: str, **how: Any) -> None:
        with get_client(sync_client=True) as client:
            client.create_deployment(client.create_flow(child), name=name.split("/")[1], enforce_parameter_schema=False)
            children.append(run_deployment(name, timeout=0, as_subflow=True))
            if cancelled:
                client.set_flow_run_state(flow_run.id, Cancelling())
        raise TerminationSignal(signal=15)

    @flow
    def parent() -> None:
        part, run = elsewhere(tmp_path)
        with pytest.raises(TerminationSignal):
            place.run_part(part, load("tiny"), run, {}, None)
        passed_on.append(True)

    monkeypatch.setattr(place, "run_deployment", killed)
    parent(return_state=True)
    assert passed_on
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(children[0].id).state
    assert state and state.type.value in (("CANCELLING", "CANCELLED") if cancelled else ("SCHEDULED",))


@pytest.mark.parametrize(
    ("state", "failure", "words", "asked"),
    [
        (Failed(message="the job reported NaN"), place.PartFailed, "the job reported NaN", 1),
        (Crashed(message="No sign of life"), place.PartFailed, "No sign of life", 2),  # a lost worker is worth another
        (Cancelled(name=STOPPED_EARLY, message="worse than the median"), Poor, "worse than the median", 1),
    ],
)
def test_the_childs_end_is_the_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any, failure: type[Exception], words: str, asked: int
) -> None:
    child = Mock(return_value=SimpleNamespace(state=state, id="1", name="training · tiny"))
    monkeypatch.setattr(place, "run_deployment", child)
    monkeypatch.setattr(place, "get_run_logger", Mock())
    monkeypatch.setattr(place, "get_client", MagicMock())
    monkeypatch.setattr(place, "lost_tasks", lost := Mock())
    part, run = elsewhere(tmp_path)
    with pytest.raises(failure, match=words):
        place.run_part(part, load("tiny"), run, {}, None)
    assert child.call_count == asked
    assert lost.end.call_count == (asked if state.is_crashed() else 0)  # what the server believes to run in it


@pytest.mark.usefixtures("prefect_server")
def test_a_poor_training_stops_early_in_its_own_process_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(made: Any) -> Any:
        StopRule(stage="sft", figure="loss", better="lower", medians={2: 1.0}).check("sft", {"step": 2, "loss": 1.5})

    for before in (corpus, instructions):
        monkeypatch.setattr(before, "steps", lambda recipe, run: {})
    monkeypatch.setattr(training, "steps", lambda recipe, run: {"sft": poor})
    with pytest.raises(Poor, match=r"sft.loss = 1.5 at step 2 is worse than the median, 1$"):
        place.run_part(training, load("tiny"), Run(store=str(tmp_path)), {}, None)


def test_a_median_needs_three_curves_at_its_step() -> None:
    curves = [{1: 4.0, 2: 2.0}, {1: 6.0, 2: 1.0}, {1: 5.0}]
    assert medians(curves) == {1: 5.0}
    assert medians([{1: 4.0, 2: 2.0}, {1: 6.0, 2: 1.0}, {1: 5.0, 2: 3.0}]) == {1: 5.0}  # at the end nothing is left to save
    rule = StopRule(stage="sft", figure="accuracy", better="higher", medians={1: 0.5})
    rule.check("sft", {"step": 1, "accuracy": 0.5})  # as good as the median
    rule.check("sft", {"step": 2, "accuracy": 0.1})  # nobody was here before
    rule.check("reward_model", {"step": 1, "accuracy": 0.1})
    with pytest.raises(Poor):
        rule.check("sft", {"step": 1, "accuracy": 0.4})


def test_a_part_whose_result_prefect_did_not_keep_is_walked_again(tmp_path: Path) -> None:
    """As a run that goes on after a suspension may find it: the state of the part's first flow run, completed, without data."""
    states: list[Any] = [Completed(), Completed(data={"corpus": "made"})]
    part = SimpleNamespace(__name__="flows.corpus", steps=lambda recipe, run: {}, pipeline=lambda *given, **more: states.pop(0))
    found: Any = place.run_part(cast(Any, part), load("tiny"), Run(store=str(tmp_path)), {}, None)
    assert found == {"corpus": "made"}
    assert not states


def test_a_part_is_told_to_make_again_what_is_its_own(tmp_path: Path) -> None:
    """Another stage's name it would refuse, as where it is deployed alone."""
    given: list[Run] = []
    part = SimpleNamespace(
        __name__="flows.corpus", steps=lambda recipe, run: {"ingest": Mock(), "urls": Mock()}, pipeline=lambda recipe, run, *more, **how: given.append(run) or Completed(data={})
    )
    place.run_part(cast(Any, part), load("tiny"), Run(store=str(tmp_path), force=frozenset({"urls", "ppo"})), {}, None)
    assert [run.force for run in given] == [{"urls"}]
