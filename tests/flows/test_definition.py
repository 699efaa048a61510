"""A flow without a description of its parameters is still checked and still described to who asks."""

from __future__ import annotations

import sys

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, Field

from flows.definition import flow


class Limits(BaseModel):
    seconds: float = Field(gt=0, description="How long.")


@flow(name="waiting", flow_run_name="waits {limits.seconds} s")
def wait(limits: Limits, times: int = 1) -> int:
    """Wait.

    Args:
        limits: of the waiting.
        times: how often.
    """
    return times


def test_nothing_is_described_when_a_flow_is_defined_and_everything_when_a_deployment_asks() -> None:
    assert "definitions" not in wait.parameters.model_dump(exclude_defaults=True)
    for asked in (wait, wait.fn):
        schema = parameter_schema(asked).model_dump()
        assert schema["definitions"]["Limits"]["properties"]["seconds"]["exclusiveMinimum"] == 0
        assert schema["properties"]["times"]["type"] == "integer" and schema["properties"]["times"]["default"] == 1
        assert schema["properties"]["limits"]["description"] == "of the waiting." and schema["required"] == ["limits"]


def test_parameters_are_converted_and_a_wrong_one_is_refused_with_its_name() -> None:
    assert wait.validate_parameters({"limits": {"seconds": "2"}, "times": 1})["limits"] == Limits(seconds=2)
    with pytest.raises(ParameterTypeError, match=r"limits\.seconds"):
        wait.validate_parameters({"limits": {"seconds": -1}, "times": 1})


def test_what_a_run_was_given_is_kept_as_json_without_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi.encoders", None)  # to import it is an error
    assert wait.serialize_parameters({"limits": Limits(seconds=2.5), "times": 3}) == {"limits": {"seconds": 2.5}, "times": 3}


def test_options_are_prefects() -> None:
    assert wait.name == "waiting" and wait.fn.__doc__ and wait.with_options(name="other").name == "other"
