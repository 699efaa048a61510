"""Search for settings: trials of one recipe that share every artifact they have in common; poor ones stop early.

python -m flows.sweep --recipe tiny --objective sft.eval_loss --lower \\
    --search sft.optimizer.learning_rate=1e-4..1e-2:log --search sft.batch_size=8,16,32 --trials 12
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Cancelled
from pydantic import BaseModel, ConfigDict, Field

from flows import command_line, local, place
from flows.definition import flow
from flows.full_pipeline import crawl_to_model, stage_names
from flows.recipe import Recipe
from flows.recipe_errors import RecipeError
from flows.recipe_file import changed
from tasks import publishing, show, stopping
from tasks.stage import Made, Run
from tasks.store.artifacts import Store

RANGE = re.compile(r"^(?P<low>[^.,:]+(?:\.\d[^.,:]*)?)\.\.(?P<high>[^,:]+)(?P<log>:log)?$")


class Dimension(BaseModel):
    """One setting that the search tries values of: a range, or choices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(description="As --set takes it: stage.key.")
    low: float | None = Field(None, description="Of a range; whole numbers where low and high are whole.")
    high: float | None = Field(None, description="Of a range; included.")
    log: bool = Field(False, description="Search the range by its logarithm.")
    choices: list[str] = Field(default_factory=list, description="Instead of a range.")

    @classmethod
    def parse(cls, text: str) -> Dimension:
        """`key=low..high`, `key=low..high:log` or `key=a,b,c`; raises ValueError that shows these forms."""
        key, equals, values = text.partition("=")
        found = RANGE.match(values)
        try:
            if not equals or not values:
                raise ValueError
            if found:
                return cls(key=key, low=float(found["low"]), high=float(found["high"]), log=bool(found["log"]))
        except ValueError:
            raise ValueError(f"--search {text!r}: write key=low..high, key=low..high:log or key=a,b,c") from None
        return cls(key=key, choices=values.split(","))

    @property
    def ends(self) -> list[str]:
        """The choices, or the bounds, as --set reads them: where these can be used, so can what lies between."""
        return self.choices or [f"{bound:g}" for bound in (self.low, self.high)]

    def suggest(self, trial: Any) -> str:
        """A value of an Optuna trial, as --set reads it."""
        if self.low is None or self.high is None:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.low.is_integer() and self.high.is_integer():
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log))
        return repr(trial.suggest_float(self.key, self.low, self.high, log=self.log))


class Search(BaseModel):
    """What a sweep looks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: list[Dimension] = Field(min_length=1, description="The settings that are searched.")
    objective: str = Field(description="stage.figure of a training stage's summary or metrics, else a path in report.json.")
    better: Literal["higher", "lower"] = Field("higher", description="Which way the objective is better.")
    trials: int = Field(10, ge=1, description="Trials in all.")
    sampler: Literal["bayesian", "random"] = Field("bayesian", description="Optuna's tree-structured Parzen estimator, or random.")
    stop_poor: bool = Field(True, description="End a trial whose objective is worse than the median of earlier ones at that step.")
    seed: int = Field(1, ge=0, description="Of the sampler.")


class Trial(BaseModel):
    """One row of the table."""

    number: int
    settings: dict[str, str]
    value: float | None
    outcome: Literal["finished", "stopped early", "failed"]
    reason: str = ""


@flow(name="sweep", flow_run_name="{recipe.name}: {search.objective}", on_cancellation=[place.cancel_children])
def sweep(recipe: Recipe, run: Run, search: Search) -> list[Trial]:
    """Try settings one trial after the other; returns the trials, and shows them as a table and a picture.

    A sweep that was killed goes on: what its trials made is in the store, and the same seed asks for the same settings. No trial waits
    for an approval, and none goes into service: that is for a run of the recipe that was found.
    """
    recipe = recipe.model_copy(update={"approve_before": [], "publish": None})
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler if search.sampler == "bayesian" else optuna.samplers.RandomSampler
    direction = "maximize" if search.better == "higher" else "minimize"
    study = optuna.create_study(direction=direction, sampler=sampler(seed=search.seed))
    trials: list[Trial] = []
    curves: list[dict[int, float]] = []  # of the trials that went to their end
    while len(trials) < search.trials:
        asked = study.ask()
        settings = {dimension.key: dimension.suggest(asked) for dimension in search.dimensions}
        trial = _try(len(trials), settings, recipe, run.model_copy(update={"stop": _rule(search, curves)}), search, curves)
        states = {"finished": "COMPLETE", "stopped early": "PRUNED", "failed": "FAIL"}
        study.tell(asked, trial.value if trial.outcome == "finished" else None, state=optuna.trial.TrialState[states[trial.outcome]])
        trials.append(trial)
        show.say(f"trial {trial.number}: {_settings(trial)} · {trial.outcome}{'' if trial.value is None else f' · {trial.value:.4g}'}")
    _publish(run.open_store(), recipe, search, trials)
    return trials


def _rule(search: Search, curves: list[dict[int, float]]) -> stopping.StopRule | None:
    """What the next trial must reach at each step of the stage that the objective speaks of."""
    stage, _, figure = search.objective.partition(".")
    if not search.stop_poor:
        return None
    return stopping.StopRule(stage=stage, figure=figure, better=search.better, medians=stopping.medians(curves))


def _try(number: int, settings: dict[str, str], recipe: Recipe, run: Run, search: Search, curves: list[dict[int, float]]) -> Trial:
    """One trial; one that goes to its end adds its curve to `curves`."""
    row = Trial(number=number, settings=settings, value=None, outcome="failed")
    try:
        tried = changed(recipe, [f"{key}={value}" for key, value in settings.items()])
        named = one_trial.with_options(flow_run_name=f"trial {number} · {_settings(row)}")
        state = named(tried, run, search, return_state=True)
        if state.name == stopping.STOPPED_EARLY:
            return row.model_copy(update={"outcome": "stopped early", "reason": state.message or ""})
        ended: Any = state.result()
        value, curve = ended
        curves.append(curve)
        return row.model_copy(update={"outcome": "finished", "value": value})
    except RecipeError:
        raise  # a wrong search space is the caller's mistake, not a trial's outcome
    except (RuntimeError, OSError, ValueError) as failure:
        return row.model_copy(update={"reason": str(failure).splitlines()[0]})


@flow(name="trial")
def one_trial(recipe: Recipe, run: Run, search: Search) -> tuple[float, dict[int, float]] | State[Any]:
    """The objective of one recipe, measured as soon as its stage is there, and its curve over the steps.

    A poor trial ends as StoppedEarly, and its job with it.
    """
    try:
        return _objective(recipe, run, search)
    except stopping.Poor as poor:
        return Cancelled(name=stopping.STOPPED_EARLY, message=str(poor))


def _objective(recipe: Recipe, run: Run, search: Search) -> tuple[float, dict[int, float]]:
    """From the stage's own summary, else from the report."""
    stage, _, figure = search.objective.partition(".")
    trained = [one.name for one in recipe.training]
    made = crawl_to_model(recipe, run, until=stage if stage in trained else None)
    found = _own_figure(made, stage, figure) if stage in trained else None
    if found is None and stage in trained:
        made = crawl_to_model(recipe, run, until=None)
    if found is None:
        figures = publishing.figures_of(run.open_store(), made["report"].artifact)
        found = publishing.figure(figures, search.objective)
    if not math.isfinite(found):
        raise ValueError(f"{search.objective} is {found}")
    return found, _curve(run.open_store(), made[stage], figure) if stage in trained else {}


def _curve(store: Store, made: Made, figure: str) -> dict[int, float]:
    """Step -> value, as the stage's job reported it, whenever and wherever it ran."""
    lines = map(json.loads, store.read(made.artifact, "metrics.jsonl").decode().splitlines())
    return {int(line["step"]): float(line[figure]) for line in lines if isinstance(line.get(figure), int | float)}


def _own_figure(made: Mapping[str, Made], stage: str, figure: str) -> float | None:
    """A figure of the stage's own summary."""
    value = made[stage].metrics.get(figure)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _publish(store: Store, recipe: Recipe, search: Search, trials: list[Trial]) -> None:
    """The trials as a table and a picture in the UI, and as sweeps/<recipe> in the store."""
    from tasks.reporting import charts  # late: only who draws waits for matplotlib

    rows = [
        {"trial": trial.number, **trial.settings, search.objective: trial.value, "outcome": trial.outcome, "reason": trial.reason}
        for trial in sorted(trials, key=lambda trial: _rank(trial, search.better))
    ]
    create_table_artifact(rows, key="sweep-trials", description=f"{search.objective}, the {search.better} the better")
    show.picture("sweep", charts.trials_png([trial.model_dump() for trial in trials], search.objective), f"trials of {recipe.name}")
    note = {"search": search.model_dump(mode="json"), "trials": [trial.model_dump(mode="json") for trial in trials]}
    store.write_note(f"sweeps/{recipe.name}", note)


def _rank(trial: Trial, better: str) -> tuple[bool, float]:
    value = 0.0 if trial.value is None else trial.value
    return trial.value is None, -value if better == "higher" else value


def _settings(trial: Trial) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.settings.items())


def table(trials: list[Trial], search: Search) -> str:
    lines = ["", f"trial  {search.objective:>16}  settings"]
    for trial in sorted(trials, key=lambda trial: _rank(trial, search.better)):
        value = trial.outcome if trial.value is None else f"{trial.value:.6g}"
        lines.append(f"{trial.number:>5}  {value:>16}  {_settings(trial)}{'  ' + trial.reason if trial.reason else ''}")
    return "\n".join(lines)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("a sweep needs the extra `sweep`: pip install 'crawl2chat[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command_line.add_recipe_options(parser)
    command_line.add_gpu_option(parser)
    parser.add_argument("--search", action="append", default=[], required=True, metavar="KEY=VALUES", help="low..high, low..high:log or a,b,c; repeatable")
    parser.add_argument("--objective", required=True, metavar="STAGE.FIGURE", help="what is compared")
    parser.add_argument("--lower", action="store_true", help="lower is better (default: higher)")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--sampler", choices=["bayesian", "random"], default="bayesian")
    parser.add_argument("--keep-poor", action="store_true", help="let poor trials run to their end")
    given = parser.parse_args(arguments)
    options = command_line.options(given)
    recipe, run, _ = options.checked(stage_names)
    try:
        search = Search(
            dimensions=[Dimension.parse(text) for text in given.search],
            objective=given.objective,
            better="lower" if given.lower else "higher",
            trials=given.trials,
            sampler=given.sampler,
            stop_poor=not given.keep_poor,
            seed=recipe.seed,
        )
        for dimension in search.dimensions:
            for value in dimension.ends:
                changed(recipe, [f"{dimension.key}={value}"])
        _optuna()
        local.ensure_server()
    except (ValueError, OSError) as error:
        command_line.refuse(str(error))
    trials = sweep(recipe, run, search)
    print(table(trials, search))
    print(f"trials      {Path(run.open_store().url) / 'sweeps' / f'{recipe.name}.json'}")
    return 0 if any(trial.outcome == "finished" for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
