"""The JSONPath of printer columns and scales: fields, indices, slices, wildcards, filters (kubectl's dialect). Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_TOKEN = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\\\s])+)
      |\[(?P<index>-?\d+)\]
      |\[(?P<slice>-?\d*:-?\d*(?::-?\d+)?)\]
      |\[\*\]|\.\*
      |\['(?P<quoted>(?:\\.|[^'\\])*)'\]|\["(?P<double>(?:\\.|[^"\\])*)"\]
      |\[\?\((?P<filter>.*?)\)\](?=[.\[]|$)""",
    re.VERBOSE,
)
_FILTER = re.compile(r"@(?P<path>[^=<>!\s]*)\s*(?:(?P<sign>==|!=|<=|>=|<|>)\s*(?P<value>.+))?")
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    ">": lambda one, other: bool(one > other),
    "<=": lambda one, other: bool(one <= other),
    ">=": lambda one, other: bool(one >= other),
}


class JSONPathError(ValueError):
    """A text that is no path of this dialect."""


@functools.lru_cache(maxsize=512)
def compiled(text: str) -> tuple[Step, ...]:
    """The steps of a path such as `.status.conditions[?(@.type=="Ready")].status`. Raises JSONPathError."""
    steps: list[Step] = []
    at = 0
    while at < len(text) and text != ".":
        match = _TOKEN.match(text, at)
        if match is None:
            raise JSONPathError(text)
        steps.append(_step(match))
        at = match.end()
    return tuple(steps)


def find(text: str, value: Any) -> list[Any]:
    """Every value that the path leads to; none for a path that leads nowhere. Raises JSONPathError."""
    found = [value]
    for step in compiled(text):
        found = step(found)
    return found


def _step(match: re.Match[str]) -> Step:
    name = match["field"] or match["quoted"] or match["double"]
    if name == "*" or match[0] in ("[*]", ".*"):
        return _children
    if name is not None:
        return _field(re.sub(r"\\(.)", r"\1", name))
    if match["index"]:
        index = int(match["index"])
        return lambda values: [
            value[index] for value in values if isinstance(value, list) and -len(value) <= index < len(value)
        ]
    if match["slice"]:
        bounds = slice(*(int(part) if part else None for part in match["slice"].split(":")))
        return lambda values: [item for value in values if isinstance(value, list) for item in value[bounds]]
    return _filter(match["filter"] or "")


def _children(values: list[Any]) -> list[Any]:
    out: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            out += value.values()
        elif isinstance(value, list):
            out += value
    return out


def _field(name: str) -> Step:
    return lambda values: [value[name] for value in values if isinstance(value, dict) and name in value]


def _filter(text: str) -> Step:
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise JSONPathError(text)
    path, sign = match["path"], match["sign"]
    compiled(path)
    wanted = _literal(match["value"].strip()) if sign else None

    def fits(item: Any) -> bool:
        found: Sequence[Any] = find(path, item)
        if not sign:
            return bool(found)
        try:
            return bool(found) and _TESTS[sign](found[0], wanted)
        except TypeError:
            return False

    return lambda values: [item for item in _children(values) if fits(item)]


def _literal(text: str) -> Any:
    if text[:1] in "'\"" and text[-1:] == text[:1]:
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        raise JSONPathError(text) from None
