"""What was wrong before and has not changed is not held against an update (KEP-4008, CRDValidationRatcheting)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from twinstack.api.structural.schema import Schema

_ABSENT: Any = object()
_STEP = re.compile(r"\[(\d+)\]|([^.\[]+(?:\[(?!\d+\])[^\]]*\])?)")


def unchanged(path: str, new: Any, old: Any, schema: Schema) -> bool:
    """Whether the value at a path, or one around it, equals the one that it replaces.

    Items of lists with keys are compared with those of the same keys, other lists as a whole.
    """
    node: Schema | None = schema
    for index, name in _steps(path, new):
        if isinstance(new, list) and isinstance(old, list) and index is not None and index < len(new):
            new, old = new[index], _replaced(new[index], old, node)
            node = node.items if node is not None else None
        elif isinstance(new, dict) and isinstance(old, dict):
            new, old = new.get(name, _ABSENT), old.get(name, _ABSENT)
            node = node.of_field(name) if node is not None else None
        else:
            return False
        if old is _ABSENT or new is _ABSENT:
            return False
        if new == old:
            return True
    return False


def _steps(path: str, value: Any) -> Iterator[tuple[int | None, str]]:
    """Names may hold dots: the longest name that is there is taken."""
    rest = path
    while rest:
        rest = rest.removeprefix(".")
        name = ""
        if isinstance(value, dict):
            fitting = [key for key in value if rest == key or rest.startswith((f"{key}.", f"{key}["))]
            name = max(fitting, key=len, default="")
        if name:
            value = value[name]
            rest = rest[len(name) :]
            yield None, name
            continue
        match = _STEP.match(rest)
        if match is None:
            return
        rest = rest[match.end() :]
        index = int(match[1]) if match[1] else None
        within = isinstance(value, list) and index is not None and index < len(value)
        value = value[index] if within else None
        yield index, match[2] or ""


def _replaced(item: Any, old: list[Any], schema: Schema | None) -> Any:
    if schema is None or schema.list_type != "map" or not isinstance(item, dict):
        return _ABSENT

    def key(each: Any) -> list[Any]:
        return [each.get(name) if isinstance(each, dict) else None for name in schema.list_keys]

    wanted = key(item)
    return next((each for each in old if key(each) == wanted), _ABSENT)
