"""Corpus and splits -> tokenizer -> the training stages that the recipe lists, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows import corpus, instructions
from flows.definition import flow
from flows.recipe import Recipe
from flows.steps import Steps, walk
from rlhf_core.settings import PretrainStage, TrainingStage
from tasks.mixtures import mix
from tasks.stage import Made, Run
from tasks.stopping import STOPPED_EARLY, Poor
from tasks.store.artifacts import Files
from tasks.training import train, train_tokenizer


@flow(name="training", flow_run_name="training · {recipe.name}")
def pipeline(recipe: Recipe, run: Run, made: dict[str, Made], until: str | None = None) -> dict[str, Made] | State[Any]:
    """Run alone, it starts with what comes before it, which is mostly there; one that `run.stop` ends is StoppedEarly.

    Args:
        recipe: inputs, and the settings of every stage.
        run: where artifacts lie, and how the work is done.
        made: stages that are made already, by name: they are not walked again.
        until: the stage after which the run stops; null = it goes to its end.
    """
    before = dict(corpus.steps(recipe, run)) | dict(instructions.steps(recipe, run))
    try:
        return walk(run, before | dict(steps(recipe, run)), made, until)
    except Poor as poor:
        return Cancelled(name=STOPPED_EARLY, message=str(poor))


def steps(recipe: Recipe, run: Run) -> Steps:
    table: dict[str, Any] = {}
    if any(_needs_tokenizer(stage) for stage in recipe.training):
        table["tokenizer"] = lambda made: train_tokenizer(run, made["corpus"], recipe.tokenizer)
    if recipe.mixture is not None:
        table["mixture"] = lambda made: mix(run, *_mixture_inputs(recipe, made), recipe.mixture)
    for stage in recipe.training:
        table[stage.name] = lambda made, stage=stage: train(run, stage, *inputs(stage, made))
    return table


def inputs(stage: TrainingStage, made: dict[str, Made]) -> tuple[dict[str, Made | Files], dict[str, str]]:
    """A stage's artifacts by role, and where in each artifact (or on the hub) the role's input lies."""
    artifacts: dict[str, Made | Files] = {}
    folders: dict[str, str] = {}
    for role, data in stage.datasets().items():
        source, _, folder = data.partition("/")
        if source in made:
            artifacts[role], folders[role] = made[source], folder
        else:
            artifacts[role], folders[role] = Files.of(data), ""
    for role, file in stage.code().items():
        artifacts[role], folders[role] = Files.of(file), ""
    if _needs_tokenizer(stage):
        artifacts["tokenizer"], folders["tokenizer"] = made["tokenizer"], "tokenizer"
    for role, model in stage.models().items():
        if model in made:
            artifacts[role], folders[role] = made[model], "model"
        elif model and Path(model).is_dir():
            artifacts[role], folders[role] = Files.of(model), ""
        else:
            folders[role] = model
    return artifacts, folders


def _mixture_inputs(
    recipe: Recipe, made: dict[str, Made]
) -> tuple[dict[str, tuple[Made | Files, str]], tuple[Made | Files, str], dict[str, Made]]:
    """Origins, tokenizer and label stages of the recipe's mixture."""
    assert recipe.mixture is not None
    origins: dict[str, tuple[Made | Files, str]] = {}
    for name, source in recipe.mixture.sources.items():
        artifact, _, folder = source.origin.partition("/")
        origins[name] = (made[artifact], folder) if artifact in made else (Files.of(source.origin), "")
    reader = next((stage for stage in recipe.training if stage.data == "mixture"), recipe.training[0])
    tokenizer: tuple[Made | Files, str] = (made["tokenizer"], "tokenizer") if "tokenizer" in made else (Files.of(reader.init or ""), "")
    return origins, tokenizer, {name: made[name] for name in corpus.LABELS if name in made}


def _needs_tokenizer(stage: TrainingStage) -> bool:
    return isinstance(stage, PretrainStage) and stage.needs_tokenizer
