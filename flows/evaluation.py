"""Models -> scores and samples -> verdicts -> report; and what is asked of them afterwards.

python -m flows.evaluation --compare RUN_A RUN_B            the difference of two runs' models, with significance
python -m flows.evaluation --compare RUN#sft RUN#ppo        of two models of one run
python -m flows.evaluation --sheet RUN --out sheet.csv     pairs of answers for a person, without names
python -m flows.evaluation --agreement sheet.csv            a person's filled sheet against the judges
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from prefect.events import emit_event

from data.evaluation.settings import JudgementSettings
from flows import corpus, instructions, training
from flows.definition import flow
from flows.recipe import Recipe
from flows.steps import Steps, walk
from tasks import judging, publishing, this_run
from tasks.reporting import comparing, measured
from tasks.reporting.figures import numbers
from tasks.reporting.report import report
from tasks.stage import Made, Run
from tasks.store.artifacts import Artifact, Files, Store
from tasks.training import evaluate

DESCRIPTION = """\
Compare two evaluations, or check a judge against a person. A run is named by its report.json, by the folder of its
evaluation or report artifact, or by an artifact's id in the store; `#MODEL` behind it takes one model alone.

Exit status of --compare: 0 where nothing of the second is significantly worse, 1 where something is, 2 for wrong input.
"""


@flow(name="evaluation", flow_run_name="evaluation · {recipe.name}")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made]:
    """Run alone, it starts with what comes before it, which is mostly there. Its scores are an event, `evaluation.finished`.

    Args:
        recipe: inputs, and the settings of every stage.
        run: where artifacts lie, and how the work is done.
        made: stages that are made already, by name: they are not walked again.
        until: the stage after which the run stops; null = it goes to its end.
    """
    before = dict(corpus.steps(recipe, run)) | dict(instructions.steps(recipe, run)) | dict(training.steps(recipe, run))
    made = walk(run, before | dict(steps(recipe, run)), made, until)
    if "report" in made and not made["report"].reused and this_run.is_deployed():  # as show.announce: elsewhere nobody could hear it
        _announce(recipe, run, made["report"].artifact)
    return made


def _announce(recipe: Recipe, run: Run, report: Artifact) -> None:
    """Every model's figures, as --compare names them (ppo.win_rate). Those of the evaluation's artifact alone know neither the
    judges' verdicts nor the multiple choice."""
    figures = publishing.figures_of(run.open_store(), report)
    models = {stage.name: figures[stage.name] for stage in recipe.training} | figures["evaluation"].get("others", {})
    emit_event(
        "evaluation.finished",
        resource={"prefect.resource.id": f"crawl2chat.report.{report.fingerprint}", "prefect.resource.name": report.url},
        payload={"recipe": recipe.name, "figures": dict(numbers(models))},
    )


def steps(recipe: Recipe, run: Run) -> Steps:
    """`judgement` is there where the recipe makes two models that answer, and names a judge."""
    table = {"evaluation": lambda made: evaluate(run, recipe.evaluation, *inputs(recipe, made))}
    if recipe.judgement.judges and sum(stage.kind != "reward" for stage in recipe.training) > 1:
        table["judgement"] = lambda made: judging.judge_answers(run, made["evaluation"], judgement(recipe))
    return table | {"report": lambda made: report(run, recipe.name, list(recipe.training), made)}


def inputs(recipe: Recipe, made: dict[str, Made]) -> tuple[dict[str, Made | Files], dict[str, str]]:
    """What the evaluation job asks for, by role, and where in each artifact (or on the hub) it lies: every trained model by its
    stage's kind and name in the recipe's order, further models, splits and questions, corpus, multiple-choice sets."""
    artifacts: dict[str, Made | Files] = {f"{stage.kind}:{stage.name}": made[stage.name] for stage in recipe.training}
    folders: dict[str, str] = {}
    for name, model in recipe.evaluation.others.items():
        if Path(model).is_dir():
            artifacts[f"other:{name}"] = Files.of(model)
        else:
            folders[f"other:{name}"] = model
    artifacts |= {"splits": made["splits"], "corpus": made["corpus"]}
    if recipe.questions:
        artifacts["questions"], folders["questions"] = made["splits"], "questions.jsonl"
    for one in recipe.evaluation.knowledge:
        artifacts[f"knowledge/{one.name}"] = Files.of(one.folder)
    return artifacts, folders


def judgement(recipe: Recipe) -> JudgementSettings:
    """With what the recipe leaves to its other sections: the baseline (the last SFT model, or the first that answers), the pattern,
    and no reward judge where no reward model is trained."""
    settings = recipe.judgement
    answering = [stage.name for stage in recipe.training if stage.kind != "reward"]
    tuned = [stage.name for stage in recipe.training if stage.kind == "sft"]
    scored = any(stage.kind == "reward" for stage in recipe.training)
    return settings.model_copy(
        update={
            "baseline": settings.baseline or (tuned[-1] if tuned else answering[0]),
            "preferred_pattern": settings.preferred_pattern or recipe.evaluation.preferred_pattern,
            "judges": [name for name in settings.judges if name != "reward" or scored],
        }
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.evaluation", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two runs; the difference is B less A")
    wanted.add_argument("--sheet", metavar="RUN", help="write a judged run's sheet for a blind check to --out")
    wanted.add_argument("--agreement", metavar="FILE", help="a filled sheet against the judges")
    parser.add_argument("--store", default="artifacts", metavar="URL", help="the artifact store (default: artifacts)")
    parser.add_argument("--out", metavar="PATH", help="of --sheet: the file (default: sheet.csv); of --compare: a folder for comparison.json and comparison.svg")
    given = parser.parse_args(arguments)
    try:
        store = Store(given.store)
        if given.compare:
            return _compare(store, given.compare, Path(given.out) if given.out else None)
        if given.sheet:
            return _sheet(store, given.sheet, Path(given.out or "sheet.csv"))
        return _agreement(store, Path(given.agreement))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _compare(store: Store, references: list[str], out: Path | None) -> int:
    old, new = (measured.resolve(store, reference) for reference in references)
    rows = comparing.compare(new, old)
    if not rows:
        raise ValueError(f"{old.name} and {new.name} have no figure in common")
    print(comparing.table(new, old, rows))
    if out:
        from tasks.reporting import evaluation_charts  # late: only who draws waits for matplotlib

        out.mkdir(parents=True, exist_ok=True)
        values = [asdict(row) | {"verdict": row.verdict} for row in rows]
        text = json.dumps({"a": old.name, "b": new.name, "rows": values}, ensure_ascii=False, indent=1)
        (out / "comparison.json").write_text(text + "\n", encoding="utf-8")
        (out / "comparison.svg").write_text(evaluation_charts.differences(comparing.drawn(rows), old.name, new.name), encoding="utf-8")
        print(f"\n{out / 'comparison.svg'}")
    worse = [row.figure for row in rows if row.verdict == "worse"]
    if worse:
        print(f"\nsignificantly worse: {', '.join(worse)}")
    return 1 if worse else 0


def _sheet(store: Store, reference: str, out: Path) -> int:
    home, artifact = measured.find(store, reference)
    given = home.manifest(artifact).inputs.get("judgement")
    judged = home.find("judgement", given.fingerprint if given else artifact.fingerprint)
    if judged is None:
        raise ValueError(f"{reference}: a sheet belongs to a judgement, or to a report that has one; this is a {artifact.stage} artifact without")
    count = judging.copy_sheet(home, judged, out)
    print(f"{out}: {count} pairs; fill the columns `better...` with A, B or tie, then --agreement {out}")
    return 0


def _agreement(store: Store, filled: Path) -> int:
    found = judging.agreement(store, filled)
    for problem in found["unreadable"]:
        print(f"not read: {problem} is neither A, B nor tie", file=sys.stderr)
    if not found["criteria"]:
        raise ValueError(f"{filled}: nothing is filled in that a judge has judged too")
    print(f"{'judge':10} {'criterion':12} {'pairs':>6} {'agree':>7}  {'95% interval':15} {'kappa':>6}  win rate by the person")
    for row in found["criteria"]:
        same, wins = row["agreement"], row["win_rate_by_person"]
        print(
            f"{row['judge']:10} {row['criterion']:12} {same['count']:6,} {same['value']:7.1%}  {same['low']:6.1%} - {same['high']:6.1%} "
            f"{row['kappa']:7.2f}  {wins['value']:.1%} ({wins['low']:.1%} - {wins['high']:.1%})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
