"""What is wrong with a recipe, in one message for a person: the key as --set takes it, and what is allowed."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flows.recipe import Recipe

_brief = reprlib.Repr()  # a whole stage is not repeated in its message
_brief.maxstring = 120
_SAID = dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "keys with values are needed here")  # pydantic's words speak of classes


class RecipeError(ValueError):
    """What is wrong with a recipe."""


def explain(error: ValidationError, raw: dict[str, Any]) -> str:
    """At most five problems of the recipe `raw`, as it was written."""
    return "; ".join(_one(problem, raw) for problem in error.errors()[:5])


def _one(problem: Any, raw: dict[str, Any]) -> str:
    location = list(problem["loc"])
    named = _name(location, raw)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed(location[:-1])
        return f"{named}: unknown key{near(str(location[-1]), allowed)}; allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{named}: this key is missing"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        wrong = f"no {problem['ctx']['tag']!r}" if "tag" in problem["ctx"] else "this key is missing"
        return f"{named}.kind: {wrong}; allowed: {', '.join(_kinds())}"
    message = _SAID.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{named}: {message}" if named else message
    given = problem.get("input")
    if isinstance(given, bool) and problem["type"] == "string_type":
        message += "; YAML reads yes, no, on and off as true and false: write it in quotes"
    return f"{named}: {message[0].lower()}{message[1:]} (given: {_brief.repr(given)})"


def _kinds() -> list[str]:
    """The kinds of training stages."""
    return [str(model.model_fields["kind"].default) for model in _models(Recipe.model_fields["training"].annotation)]


def _name(location: list[Any], raw: dict[str, Any]) -> str:
    """`training.1.sft.batch_size` becomes `sft.batch_size`: the name that --set takes."""
    if len(location) > 1 and location[0] == "training" and isinstance(location[1], int):
        stage = raw["training"][location[1]]
        head = stage.get("name", f"training[{location[1]}]") if isinstance(stage, dict) else f"training[{location[1]}]"
        location = [head, *location[3:]]
    return ".".join(str(part) for part in location)


def _allowed(location: list[Any]) -> list[str]:
    """The keys allowed at a place of the recipe."""
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        options = list(_models(model.model_fields[part].annotation)) if part in model.model_fields else []
        if not options:  # the tag of a discriminated union: training, 1, "sft"
            tagged = [m for m in _models(Recipe.model_fields["training"].annotation) if m.model_fields["kind"].default == part]
            options = tagged or [model]
        model = options[0]
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None or isinstance(annotation, types.UnionType) or annotation is Union:
        for inner in get_args(annotation):
            yield from _models(inner)


def near(word: str, known: Sequence[str]) -> str:
    """" (did you mean ...?)", where one of the known words is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
