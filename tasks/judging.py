"""The judgement: the evaluated models' answers compared pair by pair, win rates with intervals, and a person's agreement with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.evaluation import sheets
from data.evaluation.answers import pairs, read_answers
from data.evaluation.judges import RecordedVerdicts, judge
from data.evaluation.settings import JudgementSettings
from data.instructions.lines import write_json
from data.instructions.teacher import Teacher
from rlhf_core.measures.statistics import Estimate, cohens_kappa, sign_test, wilson
from rlhf_core.measures.text_measures import exact_match
from tasks import show
from tasks.reporting.figures import json_lines
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Artifact, Draft, Files, Result, Store
from tasks.teachers import teacher_of

JUDGEMENT_VERSION = 1


@task(task_run_name="judgement", cache_policy=NO_CACHE)
def judge_answers(run: Run, evaluation: Made, settings: JudgementSettings) -> State[Made]:
    """Every model's answers against the baseline's: verdicts.jsonl, judgement.json, a sheet for a person with its key."""
    inputs: dict[str, Made | Files] = {"evaluation": evaluation}
    if settings.completions:
        inputs["verdicts"] = Files.of(settings.completions)

    def build(draft: Draft) -> Result:
        answers = [line | {"right": _right(line)} for line in read_answers(run.local(evaluation.artifact) / "answers.jsonl")]
        found = list(pairs(answers, settings.baseline or "", settings))
        progress = show.Progress("judgement").count
        with _teacher(settings, draft.work) as teacher:
            calls, usage = judge(found, settings, teacher, draft.out, draft.work, progress)
        verdicts = json_lines(draft.out / "verdicts.jsonl")
        sheets.write_sheet(found, [*verdicts, *overall(verdicts)], settings.criteria, settings.sheet, settings.seed, draft.out)
        summary = {"baseline": settings.baseline, "pairs": len(found), "judges": summarise(verdicts)}
        if "teacher" in settings.judges:
            summary |= usage.report(settings, calls)
        write_json(draft.out / "judgement.json", summary)
        return Result(counts={}, metrics=summary)

    return make(run, "judgement", JUDGEMENT_VERSION, settings, inputs, build)


@contextmanager
def _teacher(settings: JudgementSettings, work: Path) -> Iterator[Teacher | None]:
    if "teacher" not in settings.judges:
        yield None
    elif settings.is_live:
        with teacher_of(settings, work) as teacher:
            yield teacher
    else:
        yield RecordedVerdicts(Path(settings.completions or ""))


def _right(line: Mapping[str, Any]) -> bool | None:
    return exact_match(line["text"] or "", line["reference"]) if line.get("reference") else None


# --- win rates --------------------------------------------------------------------------------------------------------


def summarise(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """{judge: {model: {criterion: tally}}}; a judge of several criteria also has `overall`, their mean prompt by prompt."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for line in verdicts:
        groups.setdefault((line["judge"], line["model"], line["criterion"]), []).append(line)
    for line in overall(verdicts):
        groups.setdefault((line["judge"], line["model"], "overall"), []).append(line)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (name, model, criterion), lines in groups.items():
        found.setdefault(name, {}).setdefault(model, {})[criterion] = tally(lines)
    return found


def overall(verdicts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line for each pair that a judge was asked several criteria about: the mean of those that were judged."""
    places: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for line in verdicts:
        if line["criterion"] != "overall":
            places.setdefault((line["judge"], line["model"], line["set"], line["id"]), []).append(line)
    found = []
    for lines in places.values():
        values = [line["value"] for line in lines if line["value"] is not None]
        failure = None if values else lines[0]["failure"]
        value = sum(values) / len(values) if values else None
        found.append({**lines[0], "criterion": "overall", "orders": [], "value": value, "failure": failure})
    return found


def tally(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of one judge on one criterion, and the win rate (ties half) with its 95% interval.

    `disagreement` is the share of pairs on which the two orders named different winners, `first_preferred` the share of
    decided orders in which the answer shown first won: 0.5 for a judge without position bias. Failed pairs are counted and
    take no part.
    """
    judged = [line for line in lines if line["value"] is not None]
    ordered = [line["orders"] for line in judged if len(line["orders"]) == 2]
    decided = [(order[place], place) for order in ordered for place in (0, 1) if order[place] != "tie"]
    first = sum(winner == ("model", "baseline")[place] for winner, place in decided)
    wins = sum(line["value"] > 0.5 for line in judged)
    losses = sum(line["value"] < 0.5 for line in judged)
    return {
        "win_rate": as_figure(wilson(sum(line["value"] for line in judged), len(judged))) if judged else None,
        "wins": wins,
        "ties": len(judged) - wins - losses,
        "losses": losses,
        "p_value": sign_test(wins, losses),
        "disagreement": sum(one != two for one, two in ordered) / len(ordered) if ordered else None,
        "first_preferred": first / len(decided) if decided else None,
        "failures": dict(Counter(line["failure"] for line in lines if line["failure"])),
        "languages": {
            lang: as_figure(wilson(sum(own), len(own)))
            for lang in sorted({line["lang"] for line in judged if line["lang"]})
            if (own := [line["value"] for line in judged if line["lang"] == lang])
        },
    }


def as_figure(estimate: Estimate) -> dict[str, float | int]:
    """An estimate as it stands in JSON."""
    return {"value": round(estimate.value, 6), "low": round(estimate.low, 6), "high": round(estimate.high, 6), "count": estimate.count}


# --- a person's check -------------------------------------------------------------------------------------------------


def agreement(store: Store, filled: Path) -> dict[str, Any]:
    """How far a person's filled sheet agrees with the judges: {"sheet", "items", "unreadable", "criteria": [...]}.

    An entry of `criteria` says of a judge and a criterion how many pairs both decided, the share on which they agree (with
    interval), Cohen's kappa, and the model's win rate by the person.

    Raises:
        ValueError: the file is no sheet, or none of this store's judgements.
    """
    name = sheets.sheet_name(filled)
    key = next((key for _, key in _keys(store) if key["sheet"] == name), None)
    if key is None:
        raise ValueError(f"{filled}: no judgement in {store.url} has written sheet {name}; name its store with --store")
    person = sheets.read_sheet(filled, key)
    rows = []
    for criterion, winners in sorted(person.winners.items()):
        by_judge: dict[str, list[tuple[str, str]]] = {}
        for item, winner in winners.items():
            for said in key["items"][item]["judges"]:
                if said["criterion"] == criterion and said["winner"]:
                    by_judge.setdefault(said["judge"], []).append((winner, said["winner"]))
        points = sum({"model": 1.0, "tie": 0.5, "baseline": 0.0}[winner] for winner in winners.values())
        for judge_name, both in sorted(by_judge.items()):
            same = sum(one == two for one, two in both)
            rows.append(
                {
                    "judge": judge_name, "criterion": criterion, "agreement": as_figure(wilson(same, len(both))),
                    "kappa": cohens_kappa([one for one, _ in both], [two for _, two in both]),
                    "win_rate_by_person": as_figure(wilson(points, len(winners))),
                }
            )  # fmt: skip
    return {"sheet": name, "items": len(key["items"]), "unreadable": person.unreadable, "criteria": rows}


def copy_sheet(store: Store, judgement: Artifact, target: Path) -> int:
    """The judgement's sheet as a file of its own; the key stays in the store. Returns how many pairs it holds.

    Raises:
        ValueError: there is a file already, or the judgement has no pair to show.
    """
    folder = store.local(judgement)
    count = len(json.loads((folder / "sheet.key.json").read_text(encoding="utf-8"))["items"])
    if not count:
        raise ValueError(f"{judgement.url} has no two different answers to compare: no sheet")
    if target.exists():
        raise ValueError(f"{target} is there already; give another name")
    target.write_bytes((folder / "sheet.csv").read_bytes())
    return count


def _keys(store: Store) -> Iterator[tuple[Artifact, dict[str, Any]]]:
    for artifact in store.artifacts():
        if artifact.stage == "judgement":
            yield artifact, json.loads((store.local(artifact) / "sheet.key.json").read_text(encoding="utf-8"))

