"""Two evaluations compared: by hand where it can be, paired by item, with the right exit status."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from flows import evaluation as command
from rlhf_core.measures.statistics import sign_test
from tasks.reporting.comparing import NOT_SHOWN, compare, difference, direction
from tasks.reporting.measured import Measured, items, resolve
from tasks.store.artifacts import Draft, Result, Store
from tests.tasks.evaluated import Numbered, answers, evaluation, judgement


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_figures_are_the_means_of_their_items(store: Store) -> None:
    artifact = evaluation(store, 1, answers({"pretrain": 2, "sft": 20, "ppo": 30})).artifact
    found = resolve(store, f"evaluation/{artifact.fingerprint}")
    shared = found.figures.keys() & found.items.keys()
    assert len(shared) == 15  # five figures of three models
    for figure in shared:
        assert sum(found.items[figure].values()) / len(found.items[figure]) == pytest.approx(found.figures[figure])


def test_items_of_unequal_size_have_the_figure_as_their_mean(tmp_path: Path) -> None:
    """Rankings of one and three pairs, texts of two and six bytes: the sum over the sum, by hand."""
    pairs = [{"id": "one", "right": 1.0}, *({"id": "three", "right": right} for right in (0.0, 0.0, 0.5))]
    texts = [("short", "en", 4, 2), ("long", "zh", 6, 6)]
    documents = [{"model": "sft", "id": name, "lang": lang, "nats": bits * math.log(2), "bytes": size, "characters": 2} for name, lang, bits, size in texts]
    for name, lines in (("pairs", pairs), ("language_model", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = items(tmp_path, None, {"sft": "sft", "rm": "reward"})
    assert found["rm.accuracy"] == {"one": 0.5, "three": 0.25}  # mean 1.5 / 4
    assert found["sft.language_model.all.bits_per_byte"] == pytest.approx({"short": 1.0, "long": 1.5})  # mean 10 / 8
    assert found["sft.language_model.zh.bits_per_character"] == pytest.approx({"long": 3.0})
    assert direction("sft.language_model.all.bits_per_byte") == "lower"


def test_two_models_of_one_run_by_hand(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = evaluation(store, 1, answers({"sft": 10, "ppo": 30}))
    judgement(store, evaluated)
    place = str(store.local(evaluated.artifact))
    rows = {row.figure: row for row in compare(resolve(store, f"{place}#ppo"), resolve(store, f"{place}#sft"))}
    exact = rows["exact_match"].difference
    assert exact and exact.value == pytest.approx(0.5) and exact.p_value == pytest.approx(sign_test(20, 0)) and exact.count == 40
    assert rows["exact_match"].verdict == "better" and rows["length"].verdict == "changed" and rows["finished_share"].verdict == NOT_SHOWN
    assert command.main(["--store", store.url, "--compare", f"{place}#sft", f"{place}#ppo", "--out", str(tmp_path / "out")]) == 0
    assert "exact_match" in capsys.readouterr().out
    assert command.main(["--store", store.url, "--compare", f"{place}#ppo", f"{place}#sft"]) == 1
    assert "significantly worse: " in capsys.readouterr().out
    picture = (tmp_path / "out" / "comparison.svg").read_text()
    assert picture.startswith("<svg") and "#sft   B: " in picture and "0.25 to 0.75 (+0.5), better" in picture
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"][0]["difference"]


def test_a_run_report_and_a_report_artifact_name_the_same(store: Store, tmp_path: Path) -> None:
    evaluated = evaluation(store, 1, answers({"sft": 10, "ppo": 30})).artifact

    def build(draft: Draft) -> Result:
        (draft.out / "figures.json").write_text(json.dumps({"corpus": {"kept": 7}, "ppo": {"kl": 1.5}, "card": {"x": 1}}))
        return Result({}, {})

    report, _ = store.make("report", 1, Numbered(number=1), {"evaluation": evaluated}, build)
    (tmp_path / "report.json").write_text(json.dumps({"stages": [{"name": "report", "artifact": report.url, "fingerprint": report.fingerprint}]}))
    one, two = resolve(store, str(tmp_path / "report.json")), resolve(Store(str(tmp_path / "elsewhere")), report.url)
    assert one.figures == two.figures and one.items == two.items
    assert one.figures["corpus.kept"] == 7 and one.figures["ppo.kl"] == 1.5 and "card.x" not in one.figures and "ppo.exact_match" in one.items


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nothing/abc", "nothing is called so"), ("", "nothing is called so"), ("model/", "several|nothing"), ("MODEL", "holds no evaluation"),
        ("EVALUATION#nobody", "nothing was measured of 'nobody'; measured were: ppo, reward_model, sft"), ("broken.json", "no report.json of a run"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(
    store: Store, tmp_path: Path, reference: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = evaluation(store, 1, answers({"sft": 10, "ppo": 30})).artifact
    model, _ = store.make("ppo", 1, Numbered(number=1), {}, lambda draft: Result({}, {}))
    (tmp_path / "broken.json").write_text("{}")
    reference = reference.replace("EVALUATION", evaluated.url).replace("MODEL", model.url).replace("broken", str(tmp_path / "broken"))
    with pytest.raises(ValueError, match=message):
        resolve(store, reference)
    assert command.main(["--store", store.url, "--compare", reference, evaluated.url]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_items_of_other_ids_are_compared_unpaired() -> None:
    old = Measured("a", {"x": 0.5}, {"x": {f"a{n}": n % 2 for n in range(20)}})
    paired = difference(Measured("b", {"x": 0.5}, {"x": {f"a{n}": n % 2 for n in range(15)}}), old, "x")
    apart = difference(Measured("b", {"x": 0.5}, {"x": {f"b{n}": n % 2 for n in range(20)}}), old, "x")
    assert paired and paired.test == "no item differs" and paired.count == 15
    assert apart and apart.test == "relabelling" and apart.count == 40
    assert difference(Measured("b", {"x": 0.5}), old, "x") is None


def test_many_figures_without_a_difference_raise_no_alarm() -> None:
    """Holm's adjustment: one small p-value among twenty is no finding."""
    even, shifted = {f"i{n}": float(n % 2) for n in range(60)}, {f"i{n}": float(n % 2 or n < 14) for n in range(60)}
    alone = compare(Measured("b", {"x": 0.6}, {"x": shifted}), Measured("a", {"x": 0.5}, {"x": even}))
    assert alone[0].verdict == "better"  # 7 won, none lost: p = 0.016
    names = [f"x{n}" for n in range(20)]
    new = Measured("b", dict.fromkeys(names, 0.6), {name: shifted if name == "x3" else even for name in names})
    old = Measured("a", dict.fromkeys(names, 0.5), dict.fromkeys(names, even))
    assert {row.verdict for row in compare(new, old)} == {NOT_SHOWN}


def test_direction_of_figures() -> None:
    assert [direction(figure) for figure in ("ppo.win_rate", "pretrain.perplexity_zh", "ppo.kl", "ppo.length")] == ["higher", "lower", "lower", None]
