"""Prefect's `flow`, without what Prefect makes of parameters at great cost and no use here.

The description of a flow's parameters, as it is defined, is read by nobody: `prefect deploy` makes its own from the same function. For
a recipe with its thousand fields it takes half a second of a slow processor, and a pipeline has five flows. And what a run was given
becomes JSON by the parameters' own models; Prefect imports FastAPI for it, which no run needs otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from pydantic_core import to_jsonable_python

P = ParamSpec("P")
R = TypeVar("R")


class _Flow(Flow[P, R]):
    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """As the server keeps them with the run; raises PydanticSerializationError for what is neither JSON nor a model."""
        return {name: to_jsonable_python(value) for name, value in parameters.items()}


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """As `prefect.flow` with these options: calls are checked against the function's annotations as there."""

    def define(function: Callable[P, R]) -> Flow[P, R]:
        signature = inspect.signature(function)
        untyped = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        named = cast(Any, function)
        named.__signature__ = signature.replace(parameters=untyped)  # all that Prefect looks at for its description
        defined = _Flow(function, **options)
        del named.__signature__, cast(Any, defined).__signature__  # what wraps a function has its attributes
        return defined

    return define
