"""Fields of objects and items of lists and maps."""

from __future__ import annotations

from typing import Any

from twinstack.api.cel.values import NONE, EvaluationError, NoSuchOverload, Optional, is_number

_ESCAPES = {
    "__dot__": ".",
    "__dash__": "-",
    "__slash__": "/",
    "__underscores__": "__",
}


def unescaped(name: str) -> str:
    """A property name that is no CEL name, from its escaped form (`x__dash__y`, `__namespace__`)."""
    if "__" not in name:
        return name
    if name.startswith("__") and name.endswith("__") and name not in _ESCAPES and len(name) > 4:
        return name[2:-2]
    for escape, text in _ESCAPES.items():
        name = name.replace(escape, text)
    return name


def has_field(value: Any, name: str) -> bool:
    if isinstance(value, Optional):
        return value.has and has_field(value.value, name)
    if not isinstance(value, dict):
        raise NoSuchOverload
    return name in value or unescaped(name) in value


def field_of(value: Any, name: str) -> Any:
    if isinstance(value, Optional):
        return Optional(field_of(value.value, name)) if has_field(value, name) else NONE
    if not isinstance(value, dict):
        raise NoSuchOverload
    if name in value:
        return value[name]
    plain = unescaped(name)
    if plain in value:
        return value[plain]
    raise EvaluationError(f"no such key: {name}")


def item_at(value: Any, key: Any) -> Any:
    if isinstance(value, Optional):
        if not value.has:
            return value
        return Optional(item_at(value.value, key))
    if isinstance(value, list):
        if not is_number(key) or key != int(key):
            raise NoSuchOverload
        if not 0 <= key < len(value):
            raise EvaluationError(f"index out of bounds: {int(key)}")
        return value[int(key)]
    if isinstance(value, dict):
        if isinstance(key, list | dict):
            raise NoSuchOverload
        if key in value:
            return value[key]
        raise EvaluationError(f"no such key: {key}")
    raise NoSuchOverload
