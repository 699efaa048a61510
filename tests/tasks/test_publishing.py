"""The gate by hand arithmetic; what is in service, and the way back."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows import prune as prune_command
from flows import publish as publish_command
from flows.approval import Refused
from flows.recipe_file import load
from tasks import publishing, stage
from tasks.publishing import Measure, PublishSettings, figure, judge
from tasks.reporting.measured import Measured
from tasks.store import pruning
from tasks.store.artifacts import Artifact, Draft, Result, Store
from tests.tasks.evaluated import answers, evaluation


class Made(BaseModel):
    number: int


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def model(store: Store, number: int) -> Artifact:
    """A model that descends from a corpus of its own."""
    corpus, _ = store.make("corpus", 1, Made(number=number), {}, lambda draft: Result({}, {}))
    made, _ = store.make("ppo", 1, Made(number=number), {"corpus": corpus}, lambda draft: Result({}, {}))
    return made


def report(store: Store, **figures: float) -> Artifact:
    def build(draft: Draft) -> Result:
        (draft.out / "figures.json").write_text(json.dumps({"ppo": figures}))
        return Result({}, {})

    return store.make("report", 1, Made(number=round(1000 * sum(figures.values()))), {}, build)[0]


def measured(figures: dict[str, float], **items: dict[str, float]) -> Measured:
    return Measured("m", figures, {name.replace("__", "."): own for name, own in items.items()})


def test_gate_by_hand() -> None:
    higher = Measure(figure="ppo.win_rate", margin=0.05)
    lower = Measure(figure="pretrain.perplexity", better="lower", margin=-1.0)
    old = measured({"ppo.win_rate": 0.50, "pretrain.perplexity": 20.0})
    passed = [verdict.passed for verdict in judge(measured({"ppo.win_rate": 0.56, "pretrain.perplexity": 20.9}), old, [higher, lower])]
    assert passed == [True, True]  # 0.06 >= 0.05; a loss of 0.9 is allowed
    passed = [verdict.passed for verdict in judge(measured({"ppo.win_rate": 0.54, "pretrain.perplexity": 21.1}), old, [higher, lower])]
    assert passed == [False, False]
    assert all(verdict.passed for verdict in judge(measured({"ppo.win_rate": 0.0, "pretrain.perplexity": 99.0}), None, [higher, lower]))


def test_gate_with_confidence() -> None:
    """The same gain passes with many items behind it and not with few, and never without items."""
    sure = Measure(figure="ppo.exact_match", confident=True)

    def side(share: float, count: int) -> Measured:
        return measured({"ppo.exact_match": share}, ppo__exact_match={f"q{n}": float(n < share * count) for n in range(count)})

    few, many = judge(side(0.8, 10), side(0.7, 10), [sure])[0], judge(side(0.8, 200), side(0.7, 200), [sure])[0]
    assert (few.passed, many.passed) == (False, True)
    assert few.interval and few.interval[0] <= 0 < few.interval[1]
    assert many.interval and 0 < many.interval[0] < 0.1 < many.interval[1]
    assert judge(side(0.7, 200), side(0.8, 200), [Measure(figure="ppo.exact_match", confident=True, margin=-0.2)])[0].passed
    blind = judge(measured({"ppo.exact_match": 0.9}), measured({"ppo.exact_match": 0.1}), [sure])[0]
    assert not blind.passed and "no items to compare with confidence" in str(blind)


@pytest.mark.parametrize(
    ("path", "message"), [("ppo.winrate", "no figure 'ppo.winrate'; at 'winrate' there is: win_rate"), ("ppo", "is no number"), ("ppo.win_rate.x", "a number")]
)
def test_unknown_figure_is_named(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figure({"ppo": {"win_rate": 0.5}}, path)


def test_better_replaces_worse_does_not_and_restore_brings_back(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    settings = PublishSettings(measures=[Measure(figure="ppo.win_rate")])
    first, second, third = (model(store, number) for number in range(3))
    assert publishing.publish(store, settings, "tiny", first, report(store, win_rate=0.5))[0]
    refused, verdicts = publishing.publish(store, settings, "tiny", second, report(store, win_rate=0.4))
    assert refused is None and str(verdicts[0]) == "ppo.win_rate: 0.4 against 0.5 in service: not enough"
    assert publishing.publish(store, settings, "tiny", third, report(store, win_rate=0.6))[0]
    service = publishing.in_service(store, "chat")
    assert service and service.model == third and [entry.model for entry in publishing.history(store, "chat")] == [first]

    assert publish_command.main(["--store", store.url, "--restore", "chat"]) == 0
    service = publishing.in_service(store, "chat")
    assert service and service.model == first and publishing.history(store, "chat") == []
    assert publish_command.main(["--store", store.url, "--restore", "chat"]) == 2
    assert "nothing to restore: 'chat' has no earlier model" in capsys.readouterr().err


def test_gate_compares_the_items_of_both_reports(store: Store) -> None:
    """Better by one question of forty is not enough where confidence is asked for; by twenty it is."""
    settings = PublishSettings(measures=[Measure(figure="ppo.exact_match", confident=True)])

    def reported(number: int, right: int) -> Artifact:
        evaluated = evaluation(store, number, answers({"ppo": right})).artifact

        def build(draft: Draft) -> Result:
            (draft.out / "figures.json").write_text(json.dumps({"ppo": {"exact_match": right / 40}}))
            return Result({}, {})

        return store.make("report", 1, Made(number=number), {"evaluation": evaluated}, build)[0]

    assert publishing.publish(store, settings, "tiny", model(store, 1), reported(1, 15))[0]
    refused, verdicts = publishing.publish(store, settings, "tiny", model(store, 2), reported(2, 16))
    assert refused is None and "0.4 against 0.375 in service (+0 ... +0.075): not enough" in str(verdicts[0])
    entry, verdicts = publishing.publish(store, settings, "tiny", model(store, 3), reported(3, 35))
    assert entry and verdicts[0].interval and verdicts[0].interval[0] > 0.3


def test_same_model_again_changes_nothing(store: Store) -> None:
    settings, only, figures = PublishSettings(), model(store, 1), report(store, win_rate=0.5)
    for _ in range(3):
        publishing.publish(store, settings, "tiny", only, figures)
    assert publishing.history(store, "chat") == []


def test_pruning_keeps_what_a_published_model_descends_from(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    published, forgotten = model(store, 1), model(store, 2)
    publishing.publish(store, PublishSettings(), "tiny", published, report(store, win_rate=0.5))
    later = datetime.now(UTC) + timedelta(days=40)
    plan = pruning.plan(store, timedelta(days=30), now=later)
    assert {(one.stage, one.fingerprint) for one in plan.remove} == {
        ("ppo", forgotten.fingerprint),
        ("corpus", next(iter(store.manifest(forgotten).inputs.values())).fingerprint),
    }
    assert pruning.plan(store, timedelta(days=30), keep=[f"ppo/{forgotten.fingerprint}"], now=later).remove == []
    assert pruning.plan(store, timedelta(days=30)).remove == []  # everything is young
    assert prune_command.main(["--store", store.url, "--older-than", "0", "--yes"]) == 0
    assert store.find("ppo", published.fingerprint) and not store.find("ppo", forgotten.fingerprint)
    assert {one.stage for one in store.artifacts()} == {"ppo", "corpus", "report"}
    assert prune_command.main(["--store", store.url, "--older-than", "0", "--keep", "ppo/none"]) == 2
    assert "no artifact 'ppo/none'" in capsys.readouterr().err


def test_a_person_who_is_asked_to_publish_sees_what_the_gate_would_say(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages' own figures have no win rate: it is a judgement's of each model."""
    recipe = load("tiny", ["approve_before=[publish]", "publish={measures: [{figure: ppo.win_rate, margin: 0.1}]}"])
    assert recipe.publish
    publishing.publish(store, recipe.publish, "tiny", model(store, 1), report(store, win_rate=0.5))
    made = {
        name: stage.Made(artifact=artifact, reused=False, seconds=0, counts={}, metrics={})
        for name, artifact in {"ppo": model(store, 2), "report": report(store, win_rate=0.55)}.items()
    }
    terminal = io.StringIO("n\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    said: list[str] = []
    monkeypatch.setattr("builtins.print", said.append)
    with pytest.raises(Refused, match="publish was refused"):
        publish_command.publish(recipe, stage.Run(store=store.url), made)
    assert "- ppo.win_rate: 0.55 against 0.5 in service: not enough" in said[0]
