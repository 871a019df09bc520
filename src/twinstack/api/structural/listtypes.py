"""Lists that are sets or maps hold nothing twice (`x-kubernetes-list-type`)."""

from __future__ import annotations

import json
from typing import Any

from twinstack.api.errors import FieldError, duplicate
from twinstack.api.structural.schema import ABSENT, Schema


def check_lists(value: Any, schema: Schema, path: str = "") -> list[FieldError]:
    errors: list[FieldError] = []
    if isinstance(value, dict):
        for name in sorted(value):
            inner = schema.properties.get(name)
            if inner is not None:
                errors += check_lists(value[name], inner, f"{path}.{name}" if path else name)
            elif schema.additional is not None:
                errors += check_lists(value[name], schema.additional, f"{path}[{name}]")
    elif isinstance(value, list):
        if schema.list_type in ("set", "map"):
            errors += _repeated(value, schema, path)
        if schema.items is not None and not _is_leaf(schema.items):
            for i, item in enumerate(value):
                errors += check_lists(item, schema.items, f"{path}[{i}]")
    return errors


def _is_leaf(schema: Schema) -> bool:
    return not (schema.properties or schema.items or schema.additional)


def _repeated(items: list[Any], schema: Schema, path: str) -> list[FieldError]:
    """Every value that stands twice, told once, at its second place."""
    seen: dict[str, int] = {}
    errors: list[FieldError] = []
    for i, item in enumerate(items):
        identity = _key_of(item, schema) if schema.list_type == "map" else item
        if identity is ABSENT:
            continue
        text = json.dumps(identity, sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            errors.append(duplicate(f"{path}[{i}]", identity))
    return errors


def _key_of(item: Any, schema: Schema) -> Any:
    if not isinstance(item, dict):
        return ABSENT
    return {name: item[name] for name in schema.list_keys if name in item}
