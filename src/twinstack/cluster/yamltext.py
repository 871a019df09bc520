"""YAML of plain values, written without the YAML package: mappings, lists, text, numbers, truth values."""

from __future__ import annotations

import json


def to_yaml(value: object, indent: str = "") -> str:
    """Block style; text is quoted as JSON quotes it unless it is letters and digits alone."""
    if isinstance(value, dict) and value:
        return "".join(f"{indent}{key}:{_item(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{indent}- {to_yaml(item, indent + '  ')[len(indent) + 2 :]}" for item in value)
    return f"{indent}{_scalar(value)}\n"


def _item(value: object, indent: str) -> str:
    if isinstance(value, dict) and value:
        return "\n" + to_yaml(value, indent + "  ")
    if isinstance(value, list) and value:
        return "\n" + to_yaml(value, indent)
    return f" {_scalar(value)}\n"


def _scalar(value: object) -> str:
    plain = isinstance(value, str) and value.isalnum() and value[0].isalpha() and value not in _RESERVED
    return str(value) if plain else json.dumps(value)


_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "True", "False", "Null", "y", "n"}
