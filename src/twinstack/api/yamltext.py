"""YAML text as the API server reads it: YAML 1.1 booleans, no times, no base 60; only the first document counts.

Imported when the first YAML body comes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from twinstack.api import nesting

JSON = dict[str, Any]


_ALIASED_NODES = 1000  # fewer are never too many
_LONGEST_INTEGER = 1000  # digits
_RATIO_SIZES = (400_000, 4_000_000)  # nodes; Go's reader counts alike


class YAMLSyntaxError(ValueError):
    """The text is no YAML; the message is libyaml's, with its line as Go counts it."""


class _Loader(yaml.CSafeLoader):
    """Collects keys that are set twice; of a repeated key the last value counts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.repeated: list[str] = []


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> JSON:
    loader.flatten_mapping(node)
    result: JSON = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        name = _key_text(key)
        if name in result:
            line = key_node.start_mark.line + 1
            shown = f'"{name}"' if isinstance(key, str) else name
            loader.repeated.append(f"line {line}: key {shown} already set in map")
        result[name] = loader.construct_object(value_node, deep=True)
    return result


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if len(text) > _LONGEST_INTEGER:
        raise YAMLSyntaxError("yaml: a number is too long")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if digits[:2] in ("0b", "0x", "0o"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def _key_text(key: object) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


_RESOLVERS = (
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|y|Y|n|N", "yYnNtTfFoO"),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+0123456789."),
    ("null", "~|null|Null|NULL|", "~nN\0"),
    ("merge", "<<", "<"),
)  # fmt: skip

for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(f"(?:{_pattern})\\Z"),
        ["" if char == "\0" else char for char in _first],
    )
# What JSON has, and nothing else: no sets, times or bytes.
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.CSafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("str", "seq", "null", "float")
}
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def decode(text: bytes) -> tuple[Any, list[str]]:
    """The first document, keys in alphabetical order as in JSON made from YAML, and the keys set twice.

    Raises YAMLSyntaxError.
    """
    try:
        _check_shape(text)
        loader = _Loader(text)
        try:
            value = loader.get_data() if loader.check_data() else None  # type: ignore[no-untyped-call]
        finally:
            loader.dispose()
    except YAMLSyntaxError:
        raise
    except yaml.MarkedYAMLError as error:
        raise YAMLSyntaxError(_message(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise YAMLSyntaxError(f"yaml: {error}") from error
    problem = nesting.problem(value)
    if problem:
        raise YAMLSyntaxError(f"yaml: {problem}")
    return _sorted(value), loader.repeated


class _Open:
    """A map or list whose end has not come yet. `size` and `aliased` count the nodes in it, the latter by alias."""

    def __init__(self, anchor: str | None) -> None:
        self.anchor = anchor
        self.size = 1
        self.aliased = 0


def _check_shape(text: bytes) -> None:
    """Look at the first document before it is built: libyaml builds by recursion, and aliases may multiply."""
    open_nodes: list[_Open] = []
    sizes: dict[str, int] = {}  # of what has an anchor
    containers = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        done: _Open | None = None
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(_Open(event.anchor))
            containers += 1
            if len(open_nodes) > nesting.MAX_DEPTH:
                raise YAMLSyntaxError("yaml: exceeded max depth")
            if containers > nesting.MAX_CONTAINERS:
                raise YAMLSyntaxError(f"yaml: at most {nesting.MAX_CONTAINERS} objects and lists are read")
        elif isinstance(event, yaml.CollectionEndEvent):
            done = open_nodes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            done = _Open(event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            done = _Open(None)
            done.size = done.aliased = sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.DocumentEndEvent):
            return
        if done is None:
            continue
        if done.anchor is not None:
            sizes[done.anchor] = done.size
        if open_nodes:
            outer = open_nodes[-1]
            outer.size += done.size
            outer.aliased += done.aliased
            if outer.aliased > _ALIASED_NODES and outer.aliased > _allowed_ratio(outer.size) * outer.size:
                raise YAMLSyntaxError("yaml: document contains excessive aliasing")


def _allowed_ratio(size: int) -> float:
    """How much of a document may come from aliases: much of a small one, little of a large one."""
    low, high = _RATIO_SIZES
    return 0.99 - 0.89 * min(max(size - low, 0) / (high - low), 1.0)


def _message(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    if isinstance(error, yaml.scanner.ScannerError):
        line += 1
    return f"yaml: {f'line {line}: ' if line else ''}{error.problem or 'unknown problem parsing YAML content'}"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
