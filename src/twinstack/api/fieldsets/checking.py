"""Whether an applied configuration has the shape of its type, in the words of structured merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twinstack.api.fieldsets.sets import path_text
from twinstack.api.fieldsets.topology import Shape, Topology
from twinstack.api.gotext import go_print

JSON = dict[str, Any]


class ShapeError(ValueError):
    """A configuration that does not have the shape of its type."""


def check_shape(config: JSON, topology: Topology) -> None:
    """Raises ShapeError about everything that is wrong."""
    problems = list(_problems(config, topology, ""))
    if len(problems) == 1:
        raise ShapeError(problems[0])
    if problems:
        raise ShapeError("errors:" + "".join(f"\n  {problem}" for problem in problems))


def _problems(value: Any, topology: Topology | None, path: str) -> Iterator[str]:
    if value is None or topology is None:
        return
    mismatch = _mismatch(value, topology.accepts)
    if mismatch:
        yield f"{path}: {mismatch}" if path else mismatch
    elif isinstance(value, dict) and topology.accepts == "map":
        for name, item in value.items():
            inner = topology.field(name)
            if inner is None:
                yield f"{path}.{name}: field not declared in schema"
            else:
                yield from _problems(item, inner, f"{path}.{name}")
    elif isinstance(value, list) and topology.accepts == "list":
        yield from _list_problems(value, topology, path)


def _list_problems(value: list[Any], topology: Topology, path: str) -> Iterator[str]:
    elements: set[str] = set()
    for index, item in enumerate(value):
        if topology.shape is Shape.ATOMIC:
            yield from _problems(item, topology.inner, f"{path}[{index}]")
            continue
        problem = _item_problem(item, topology)
        if problem:
            yield f"{path}: element {index}: {problem}"
            continue
        element = topology.element(item)
        if element in elements:
            yield f"{path}: duplicate entries for key {path_text((element,))}"
        elements.add(element)
        yield from _problems(item, topology.inner, path + path_text((element,)))


def _item_problem(item: Any, topology: Topology) -> str:
    """Why an item of a list with keys or of a set cannot be told from others."""
    if topology.shape is Shape.SET:
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null" if item is None else ""
    if item is None:
        return "associative list with keys may not have a null element"
    if not isinstance(item, dict):
        return "associative list with keys may not have non-map elements"
    for name, default in topology.keys:
        if name not in item and default is None:
            omits = f'omits key field "{name}" (and doesn\'t have default value)'
            return f"associative list with keys has an element that {omits}"
    return ""


def _mismatch(value: Any, accepts: str) -> str:
    shown = f"&{{{go_print(value)}}}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if accepts == "map":
        return "" if isinstance(value, dict) else f"expected map, got {shown}"
    if accepts == "list":
        return "" if isinstance(value, list) else f"expected list, got {shown}"
    if accepts == "string":
        return (
            ""
            if isinstance(value, str)
            else f"expected string, got &value.valueUnstructured{{Value:{go_print(value)}}}"
        )
    if accepts == "numeric":
        return "" if number else f"expected numeric (int or float), got {_go_type(value)}"
    if accepts == "boolean":
        return "" if isinstance(value, bool) else f"expected boolean, got {shown}"
    if accepts == "scalar" and isinstance(value, dict | list):
        return f"expected any scalar, got {shown}"
    return ""


def _go_type(value: Any) -> str:
    names = {str: "string", bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    return names[type(value)]
