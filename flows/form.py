"""A deployment's form: what the server checks it by, so that a wrong value is refused with the name of its own field."""

from __future__ import annotations

from typing import Any


def naming_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """A deployment's parameter schema in which every field that is one of several models, told apart by a key, names what is wrong in it.

    Of a value that fits none of them (`oneOf`), jsonschema says that it fits none, and repeats it: every model has its own objection, and
    it knows not which was meant. So the model that the key names is held against the value before: as the one way of an `anyOf`, whose
    objections the validator goes into (jsonschema.exceptions.best_match), and which it takes rather than the `oneOf` behind it since
    that comes later. Below `then`, where the UI, which draws its fields from the `oneOf`, does not look.
    """
    if "discriminator" in (items := schema.get("items") or {}):
        return {"if": {}, "then": {"items": {"anyOf": [_of_its_kind(items["discriminator"])]}}} | schema
    return {key: _within(value) for key, value in schema.items()}


def _within(value: Any) -> Any:
    if isinstance(value, dict):
        return naming_fields(value)
    return [_within(one) for one in value] if isinstance(value, list) else value


def _of_its_kind(discriminator: dict[str, Any]) -> dict[str, Any]:
    """What the model that a value's key names demands of it."""
    key, models = discriminator["propertyName"], discriminator["mapping"]
    return {
        "required": [key],
        "properties": {key: {"enum": list(models)}},
        "allOf": [{"if": {"required": [key], "properties": {key: {"const": name}}}, "then": {"$ref": model}} for name, model in models.items()],
    }
