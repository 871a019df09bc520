"""Schemas inside of schemas brought to their stored form: the table of types knows them only as any JSON."""

from __future__ import annotations

from typing import Any

from twinstack.api.schema import TypeMismatch, check, kind_of

JSON = dict[str, Any]

_PROPS = "apiextensions.v1.JSONSchemaProps"


def read_nested(raw: JSON) -> None:
    """Check what `items` and `additionalProperties` hold, here and in all parts; in place. Raises TypeMismatch."""
    for name, other in (("items", list), ("additionalProperties", bool)):
        value = raw.get(name)
        if isinstance(value, dict):
            raw[name], _ = check(value, _PROPS)
            read_nested(raw[name])
        elif name in raw and value is not None and not isinstance(value, other):
            raise TypeMismatch(f"json: cannot unmarshal {kind_of(value)} into Go struct field JSONSchemaProps.{name}")
    for name in ("properties", "patternProperties", "definitions"):
        inner = raw.get(name) or {}
        for key, value in inner.items():
            inner[key] = value or {}
            read_nested(inner[key])
    for name in ("allOf", "anyOf", "oneOf"):
        alternatives = [value or {} for value in raw.get(name) or ()]
        if alternatives:
            raw[name] = alternatives
        for value in alternatives:
            read_nested(value)
    if raw.get("not") is not None:
        read_nested(raw["not"])
