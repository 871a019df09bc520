"""Tables of custom resources: their name, the columns of their definition or else their age."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.structural.kind import CustomKind
from twinstack.server.customresources.jsonpath import JSONPathError, find
from twinstack.server.tables.ages import age

JSON = dict[str, Any]

_AGE: JSON = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def columns(kind: CustomKind) -> list[JSON]:
    """`columnDefinitions`; not to be changed."""
    return kind.keep(
        "columns",
        lambda: (
            [_definition({"name": "Name", "type": "string"}, "name")]
            + [_definition(column, column.get("format") or "") for column in _wanted(kind)]
        ),
    )


def _wanted(kind: CustomKind) -> list[JSON]:
    return kind.definition.get("additionalPrinterColumns") or [_AGE]


def _definition(column: JSON, form: str) -> JSON:
    return {
        "name": column["name"],
        "type": column["type"],
        "format": form,
        "description": column.get("description") or "",
        "priority": column.get("priority") or 0,
    }


def cells(kind: CustomKind, obj: JSON, now: float) -> list[Any]:
    return [obj["metadata"].get("name", ""), *(_cell(column, obj, now) for column in _wanted(kind))]


def _cell(column: JSON, obj: JSON, now: float) -> Any:
    try:
        found = find(column["jsonPath"], obj)
    except JSONPathError:
        return None
    value = found[0] if found else None
    if value is None:
        return None
    match column["type"]:
        case "string":
            return _text(value)
        case "date":
            return _age(value, now)
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case _:
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _age(value: Any, now: float) -> str:
    try:
        return age(value, now)
    except (TypeError, ValueError):
        return "<invalid>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
