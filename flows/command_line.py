"""The command line that every flow shares: recipe, overrides, inputs, store, and which stages run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from fsspec.implementations.local import LocalFileSystem

from data.places import file_system
from flows.recipe import Recipe
from flows.recipe_errors import RecipeError
from flows.recipe_file import RECIPES, load
from flows.steps import unknown_stages
from tasks.stage import Run
from tasks.store.artifacts import Store

MAX_DAYS = 36_500  # a century

HELP = """\
Run the pipeline from a raw crawl to an aligned chat model. Every stage leaves an artifact in the store;
a stage whose inputs and settings have not changed is reused.

Bundled recipes: {recipes}.

examples:
  python -m flows.full_pipeline                                        the bundled samples, minutes on a laptop
  python -m flows.full_pipeline --set ppo.kl_coef=0.05                 what depends on it runs again, the rest is reused
  python -m flows.full_pipeline --corpus 'crawl/*.warc.gz' --until corpus
  python -m flows.full_pipeline --recipe my.yaml --store s3://bucket/artifacts
"""


@dataclass(frozen=True)
class Options:
    recipe: Recipe
    run: Run
    until: str | None

    def checked(self, stage_names: Callable[[Recipe, Run], Sequence[str]]) -> tuple[Recipe, Run, str | None]:
        """Recipe, run and last stage; exits with status 2 where a named stage is not one of the recipe's, or the store cannot be opened."""
        if wrong := unknown_stages(stage_names(self.recipe, self.run), self.run.force, self.until):
            refuse(f"--{wrong[0]}")
        try:
            self.run.open_store()
        except (OSError, ValueError) as error:  # here, and not in the first stage under the lines of a traceback
            refuse(f"--store: {error}")
        return self.recipe, self.run, self.until


def parse(arguments: Sequence[str], can_stop: bool = True) -> Options:
    """Exits with status 2 and one message for anything that is wrong. `can_stop`: whether there is an `--until`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.full_pipeline",
        description=HELP.format(recipes=", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_options(parser)
    add_gpu_option(parser)
    if can_stop:
        parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="make this stage again; repeatable")
    return options(parser.parse_args(arguments))


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """What every command that takes a recipe understands."""
    parser.add_argument("--recipe", default="tiny", metavar="NAME|FILE.yaml", help="a bundled recipe or a file (default: tiny)")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change one setting; typed and checked; repeatable")
    parser.add_argument("--store", default="artifacts", metavar="URL", help="where artifacts lie: a folder or any fsspec URL (default: artifacts)")
    parser.add_argument("--corpus", action="append", metavar="PATH_OR_GLOB", help="the crawl: WARC, HTML, JSONL or Parquet; repeatable")
    parser.add_argument("--seed-tasks", metavar="FILE", help="seed tasks in Self-Instruct's format (JSONL)")
    parser.add_argument("--preferences", action="append", metavar="FILE", help="pairs or rankings (JSONL); repeatable")
    parser.add_argument("--questions", metavar="FILE", help="held-out questions with answers (JSONL); with --corpus the recipe's own are left out")


def add_gpu_option(parser: argparse.ArgumentParser, default: str = "here") -> None:
    parser.add_argument(
        "--gpu", default=default, metavar="NAME|here",
        help="who runs what needs a GPU: the deployments of this name (python -m flows.deploy makes `gpu`), or the flow's own process; "
        f"default: {default}",
    )  # fmt: skip


def existing_store(url: str) -> Store:
    """For commands that look at what is there: they make no store. Raises FileNotFoundError where a local one is not there, else as Store."""
    fs, path = file_system(url)
    if isinstance(fs, LocalFileSystem) and not fs.exists(path):
        raise FileNotFoundError(f"there is no store {path}")
    return Store(url)


def days(text: str) -> float:
    """An argparse type: a span that the calendar knows, and that is none of the future."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"a number of days from 0 to {MAX_DAYS:,} is needed (given: {text})")
    return value


def options(given: argparse.Namespace) -> Options:
    """Exits with status 2 where the recipe is wrong."""
    paths = {"corpus": given.corpus, "seed_tasks": given.seed_tasks, "preferences": given.preferences, "questions": given.questions}
    try:
        recipe = load(given.recipe, given.set, paths)
    except RecipeError as error:
        refuse(str(error))
    run = Run(
        store=given.store if "://" in given.store else os.path.abspath(given.store),  # other pools work in other folders
        force=frozenset(getattr(given, "force", ())),
        workers=recipe.runner.workers,
        gpu=None if given.gpu == "here" else given.gpu,
    )
    return Options(recipe, run, getattr(given, "until", None))


def refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
