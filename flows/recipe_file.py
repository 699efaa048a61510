"""From a recipe file, --set and input paths to a Recipe.

Relative paths in a recipe file are relative to that file, on the command line to the working directory.
Every error names the key and what is allowed, and comes before anything runs.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from data.corpus.learned.classifiers import check_models
from flows.recipe import NAME_PATTERN, ORIGINS, PATH_KEYS, Recipe
from flows.recipe_errors import RecipeError, explain, near

RECIPES = Path(__file__).parent / "recipes"
_FILE_KEYS = ("truth", "seed_tasks", "preferences", "questions", "judged_prompts")  # read as they stand; the others are searched
SAMPLES = Path(__file__).parents[1] / "data" / "samples"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place; YAML's loaders keep the last and say nothing."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return node


def load(name: str, overrides: Sequence[str] = (), paths: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called `name` (bundled) or lying at `name` (a .yaml file), with `key=value` overrides and input paths.

    Raises RecipeError with one message that names the key and what is allowed.
    """
    file = _find(name)
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{file}: not a YAML file: {error}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{file}: a recipe is a mapping of keys to values")
    raw = {key: value for key, value in raw.items() if value is not None}  # a section whose keys are all commented out
    if not re.fullmatch(NAME_PATTERN, str(raw.setdefault("name", file.stem))):
        raise RecipeError(f"{file}: name: {raw['name']!r} is none for a run: small letters a to z, digits, _ and -; write one in the file")
    _anchor(raw, file.parent)
    for assignment in overrides:
        _override(raw, assignment)
    _replace_inputs(raw, paths or {})
    _spread_seed(raw)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{file.name}: " + explain(error, raw)) from None
    _check_paths(recipe)
    return recipe


def changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with `key=value` overrides; raises RecipeError as `load` does. Its stages have their seeds: `seed` is that of all
    which have the recipe's."""
    raw = recipe.model_dump(mode="json")
    for assignment in overrides:
        _override(raw, assignment)
    if raw["seed"] != recipe.seed:
        for place in _seeded(raw):
            if place.get("seed") == recipe.seed:
                place["seed"] = raw["seed"]
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw)) from None


def _replace_inputs(raw: dict[str, Any], paths: Mapping[str, Any]) -> None:
    """Inputs from the command line. Truth, questions and what the bundled samples know speak of the recipe's own crawl: another
    crawl leaves them behind."""
    if paths.get("corpus"):
        raw["truth"] = raw["questions"] = None
        if isinstance(evaluation := raw.get("evaluation"), dict):
            evaluation["knowledge"] = [one for one in evaluation.get("knowledge") or [] if not _is_sample(one)]
    raw.update({key: value for key, value in paths.items() if value})


def _is_sample(knowledge: Any) -> bool:
    return isinstance(knowledge, dict) and Path(str(knowledge.get("folder"))).is_relative_to(SAMPLES)


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise RecipeError(f"--recipe: no file {name}")
    file = RECIPES / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise RecipeError(f"--recipe: no recipe {name!r}; bundled: {known}; or give a .yaml file")
    return file


def _anchor(raw: dict[str, Any], folder: Path) -> None:
    """Make the recipe file's relative input paths absolute."""

    def anchored(value: Any) -> Any:
        if isinstance(value, list):
            return [anchored(item) for item in value]
        if not isinstance(value, str) or "://" in value:
            return value
        if value.startswith("dataset:"):  # a folder beside the recipe, else a name on the hub
            path, mark, query = value.removeprefix("dataset:").partition("?")
            return f"dataset:{(folder / path).resolve() if (folder / path).exists() else path}{mark}{query}"
        return str((folder / os.path.expanduser(value)).resolve())

    def beside(value: Any) -> Any:  # a folder is written ./NAME or ../NAME; other names are stages and artifacts
        return anchored(value) if isinstance(value, str) and value.startswith(("./", "../", "~/")) else value

    for key in PATH_KEYS:
        if key in raw:
            raw[key] = anchored(raw[key])
    for section, field in _file_fields():
        if isinstance(raw.get(section), dict) and field in raw[section]:
            raw[section][field] = anchored(raw[section][field])

    evaluation = raw.get("evaluation")
    for one in (evaluation.get("knowledge") or ()) if isinstance(evaluation, dict) else ():
        if isinstance(one, dict) and "folder" in one:
            one["folder"] = anchored(one["folder"])
    if isinstance(evaluation, dict) and isinstance(evaluation.get("others"), dict):
        evaluation["others"] = {name: beside(model) for name, model in evaluation["others"].items()}

    mixture = raw.get("mixture")
    for source in (mixture.get("sources") or {}).values() if isinstance(mixture, dict) else ():
        if isinstance(source, dict) and isinstance(source.get("origin"), str) and source["origin"].partition("/")[0] not in ORIGINS:
            source["origin"] = anchored(source["origin"])

    for stage in raw.get("training") or []:
        if isinstance(stage, dict):
            stage |= {key: beside(stage[key]) for key in ("init", "data") if key in stage}
            if isinstance(stage.get("launch"), dict) and "hostfile" in stage["launch"]:
                stage["launch"] = stage["launch"] | {"hostfile": beside(stage["launch"]["hostfile"])}
            if isinstance(stage.get("blend"), dict):
                stage["blend"] = {beside(name): passes for name, passes in stage["blend"].items()}


def _file_fields() -> Iterator[tuple[str, str]]:
    """(section, key) of every setting that is an input file."""
    for section, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key, inner in field.annotation.model_fields.items():
                if isinstance(inner.json_schema_extra, dict) and inner.json_schema_extra.get("file"):
                    yield section, key


def _override(raw: dict[str, Any], assignment: str) -> None:
    """Apply `stage.key=value`; the value is read as YAML, so numbers, lists and null have their types."""
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {assignment!r}: write stage.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, str):
        value = os.path.expanduser(value) if value.startswith("~/") else _as_number(value)
    stages = {stage.get("name"): stage for stage in raw.get("training") or [] if isinstance(stage, dict)}
    place: Any = raw
    if keys[0] in stages:
        place, keys = stages[keys[0]], keys[1:]
    elif keys[0] not in Recipe.model_fields:
        known = [*Recipe.model_fields, *map(str, stages)]
        raise RecipeError(f"--set {path}: unknown key {keys[0]!r}{near(keys[0], known)}; allowed: {', '.join(known)}")
    for key in keys[:-1]:
        if place.get(key) is None:  # absent, or left out by null: a section begins with its defaults
            place[key] = {}
        place = place[key]
        if not isinstance(place, dict):
            raise RecipeError(f"--set {path}: {key!r} has no keys of its own")
    if not keys:
        raise RecipeError(f"--set {path}: name a key of that stage, as in {path}.seed=2")
    place[keys[-1]] = value


def _as_number(text: str) -> Any:
    """YAML 1.1 reads 1e-4 as text; a person who writes it means the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _spread_seed(raw: dict[str, Any]) -> None:
    for place in _seeded(raw):
        place.setdefault("seed", raw.get("seed", 1))


def _seeded(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every section and training stage that has a seed; sections that a recipe may do without, where it has them."""
    for section, field in Recipe.model_fields.items():
        models = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type) and issubclass(one, BaseModel)]
        if any("seed" in model.model_fields for model in models):
            place = raw.setdefault(section, {}) if field.annotation in models else raw.get(section)
            if isinstance(place, dict):
                yield place
    yield from (stage for stage in raw.get("training") or [] if isinstance(stage, dict))


def _check_paths(recipe: Recipe) -> None:
    for key in PATH_KEYS:
        value = getattr(recipe, key)
        for path in value if isinstance(value, list) else [value]:
            if path and key in _FILE_KEYS and not Path(path).is_file():
                raise RecipeError(f"{key}: a file of this machine is needed, and this is none: {path}")
            if path and "://" not in path and not path.startswith("dataset:") and not _exists(path):
                raise RecipeError(f"{key}: no such file, folder or glob: {path}")
    for section, key in _file_fields():
        value = getattr(getattr(recipe, section), key)
        for path in value if isinstance(value, list) else [value]:
            if path and "://" not in path and not _exists(path):
                raise RecipeError(f"{section}.{key}: no such file or folder: {path}")
    try:
        check_models(recipe.classifiers)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    for one in recipe.evaluation.knowledge:
        if not Path(one.folder).is_dir():
            raise RecipeError(f"evaluation.knowledge.{one.name}.folder: no such folder: {one.folder}")
    for name, source in recipe.mixture.sources.items() if recipe.mixture else ():
        if source.origin.partition("/")[0] not in ORIGINS and not _exists(source.origin):
            raise RecipeError(f"mixture.sources.{name}.origin: {source.origin!r} is neither one of {', '.join(ORIGINS)} nor a file or folder")


def _exists(path: str) -> bool:
    return Path(path).exists() or (glob.has_magic(path) and bool(glob.glob(path, recursive=True)))
