"""Objects completed and cut by their schema: defaults, unknown fields, nulls that mean absence. Changed in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from twinstack.api.structural.schema import ABSENT, Schema

_OF_RESOURCES = ("apiVersion", "kind", "metadata")


def fill_defaults(value: Any, schema: Schema) -> None:
    """Fields that have a default and are absent, or null where null is no value, take it."""
    if isinstance(value, dict):
        for name, inner in schema.properties.items():
            if inner.default is not ABSENT and (name not in value or (value[name] is None and not inner.nullable)):
                value[name] = copy.deepcopy(inner.default)
        for name, item in value.items():
            field = schema.of_field(name)
            if field is not None and isinstance(item, dict | list):
                fill_defaults(item, field)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            fill_defaults(item, schema.items)


def drop_nulls(value: Any, schema: Schema) -> None:
    """Nulls of fields that may not be null and have no default mean that the field is absent."""
    if isinstance(value, dict):
        for name in [name for name, item in value.items() if item is None]:
            inner = schema.properties.get(name)
            if inner is not None and not inner.nullable and inner.default is ABSENT:
                del value[name]
        for name, item in value.items():
            field = schema.of_field(name)
            if field is not None and isinstance(item, dict | list):
                drop_nulls(item, field)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            drop_nulls(item, schema.items)


def prune(value: Any, schema: Schema, *, resource: bool) -> list[str]:
    """Remove what the schema does not know, but for the type and metadata of a `resource`. Returns sorted paths."""
    unknown: list[str] = []
    _prune(value, schema, "", unknown, resource=resource, preserve=schema.preserve)
    return sorted(unknown)


def _prune(value: Any, schema: Schema | None, path: str, unknown: list[str], *, resource: bool, preserve: bool) -> None:
    """`preserve`: unknown fields stay, here or because of a parent that says so of what it does not describe."""
    if isinstance(value, list):
        inner = schema.items if schema is not None else None
        for i, item in enumerate(value):
            if isinstance(item, dict | list):
                keep = inner.preserve if inner is not None else preserve
                _prune(
                    item, inner, f"{path}[{i}]", unknown, resource=inner is not None and inner.embedded, preserve=keep
                )
    elif isinstance(value, dict):
        properties: Mapping[str, Schema] = schema.properties if schema is not None else {}
        additional = schema.additional if schema is not None else None
        for name in list(value):
            if resource and name in _OF_RESOURCES:
                continue
            where = f"{path}.{name}" if path else name
            field = properties.get(name) or additional
            if field is None and not preserve:
                unknown.append(where)
                del value[name]
                continue
            item = value[name]
            if isinstance(item, dict | list):
                keep = field.preserve if field is not None else preserve
                embedded = field is not None and field.embedded
                _prune(item, field, where, unknown, resource=embedded, preserve=keep)
