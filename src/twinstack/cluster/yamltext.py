"""YAML of plain values, written without the YAML package: mappings, lists, text, numbers, truth values."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # that readers take for something else


def to_yaml(value: object, indent: str = "") -> str:
    """Block style; text is quoted as JSON quotes it unless nobody can take it for something else."""
    if isinstance(value, dict) and value:
        return "".join(f"{indent}{_scalar(key)}:{_item(item, indent)}" for key, item in value.items())
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
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
