"""Prefect's `flow`, without the description of its parameters that Prefect makes for every flow as it is defined.

Nobody reads that one: `prefect deploy` makes its own from the same function. For a recipe with its thousand fields it takes half a
second of a slow processor, and a pipeline has five flows: it was a third of what their import took.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import prefect
from prefect import Flow

P = ParamSpec("P")
R = TypeVar("R")


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """As `prefect.flow` with these options: calls are checked against the function's annotations as there."""

    def define(function: Callable[P, R]) -> Flow[P, R]:
        signature = inspect.signature(function)
        untyped = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        named = cast(Any, function)
        named.__signature__ = signature.replace(parameters=untyped)  # all that Prefect looks at for its description
        defined: Flow[P, R] = prefect.flow(**options)(function)
        del named.__signature__, cast(Any, defined).__signature__  # what wraps a function has its attributes
        return defined

    return define
