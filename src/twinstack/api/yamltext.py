"""YAML text as the API server reads it: YAML 1.1 booleans, no times, no base 60; only the first document counts.

Values are built from libyaml's events, without recursion: its own builder is three times slower, and deep texts
end the process. Imported when the first YAML body comes.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import yaml

from twinstack.api import nesting

JSON = dict[str, Any]

_ALIASED_NODES = 1000  # fewer are never too many
_RATIO_SIZES = (400_000, 4_000_000)  # nodes; Go's reader counts alike
_LONGEST_INTEGER = 1000  # digits

_BOOLS = dict.fromkeys(["yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "y", "Y"], True)
_BOOLS |= dict.fromkeys(["no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "n", "N"], False)
_NULLS = ("", "~", "null", "Null", "NULL")
_INFINITIES = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_integer = re.compile(
    r"[-+]?(?:0b_*[01][01_]*|0o_*[0-7][0-7_]*|0[0-7_]*|[1-9][0-9_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*)"
).fullmatch
_LONGEST_WORD = 64  # longer scalars without quotes are text or numbers
_float = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"


class YAMLSyntaxError(ValueError):
    """The text is no YAML; the message is libyaml's, with its line as Go counts it."""


def decode(text: bytes) -> tuple[Any, list[str]]:
    """The first document, keys in alphabetical order as in JSON made from YAML, and the keys set twice.

    Raises YAMLSyntaxError.
    """
    document = _Document()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentEndEvent):
                break
            document.take(event)
    except yaml.MarkedYAMLError as error:
        raise YAMLSyntaxError(_message(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YAMLSyntaxError(f"yaml: {error}") from error
    problem = nesting.problem(document.value)
    if problem:
        raise YAMLSyntaxError(f"yaml: {problem}")
    return _sorted(document.value), document.repeated


class _Open:
    """A map or list whose end has not come yet. `size` and `aliased` count the nodes in it, the latter by alias."""

    __slots__ = ("aliased", "anchor", "key", "merged", "merges", "size", "value")

    def __init__(self, anchor: str | None, value: JSON | list[Any]) -> None:
        self.anchor = anchor
        self.value = value
        self.key: str | None = None  # of a map: what the next value belongs to
        self.merges = False  # the key is `<<`
        self.merged: list[JSON] = []  # maps that it names, the first counts most
        self.size = 1
        self.aliased = 0


class _Document:
    """Values, as events come."""

    def __init__(self) -> None:
        self.value: Any = None
        self.repeated: list[str] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}  # value and size
        self._containers = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1)
            self._put(value, event, 1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(_Open(event.anchor, {} if isinstance(event, yaml.MappingStartEvent) else []))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            value, size = self._aliased(event.anchor or "")
            self._put(value, event, size, size)

    def _begin(self, container: _Open) -> None:
        self._open.append(container)
        self._containers += 1
        if len(self._open) > nesting.MAX_DEPTH:
            raise YAMLSyntaxError("yaml: exceeded max depth")
        if self._containers > nesting.MAX_PARTS:
            raise YAMLSyntaxError(f"yaml: at most {nesting.MAX_PARTS} objects and lists are read")

    def _end(self, event: yaml.Event) -> None:
        done = self._open.pop()
        value: Any = done.value
        for merged in done.merged:
            value |= merged | value
        if done.anchor is not None:
            self._anchors[done.anchor] = (value, done.size)
        self._put(value, event, done.size, done.aliased)

    def _aliased(self, anchor: str) -> tuple[Any, int]:
        if any(each.anchor == anchor for each in self._open):
            raise YAMLSyntaxError(f"yaml: anchor '{anchor}' value contains itself")
        found = self._anchors.get(anchor)
        if found is None:
            raise YAMLSyntaxError(f"yaml: unknown anchor '{anchor}' referenced")
        return found

    def _put(self, value: Any, event: yaml.Event, size: int, aliased: int) -> None:
        """A value is whole: it goes where it belongs."""
        if not self._open:
            self.value = value
            return
        outer = self._open[-1]
        outer.size += size
        outer.aliased += aliased
        if outer.aliased > _ALIASED_NODES and outer.aliased > _allowed_ratio(outer.size) * outer.size:
            raise YAMLSyntaxError("yaml: document contains excessive aliasing")
        if isinstance(outer.value, list):
            outer.value.append(value)
        elif outer.key is None:
            outer.key = self._key(value, event, outer.value)
            outer.merges = value == _MERGE and isinstance(event, yaml.ScalarEvent) and event.implicit[0]
        elif outer.merges:
            outer.merged += _mergeable(value)
            outer.key = None
        else:
            outer.value[outer.key] = value
            outer.key = None

    def _key(self, key: Any, event: yaml.Event, into: JSON) -> str:
        if isinstance(key, dict | list):
            raise YAMLSyntaxError("yaml: invalid map key: only texts, numbers and booleans are keys")
        name = ("true" if key else "false") if isinstance(key, bool) else "null" if key is None else str(key)
        if name in into:
            shown = f'"{name}"' if isinstance(key, str) else name
            line = event.start_mark.line + 1 if event.start_mark is not None else 0
            self.repeated.append(f"line {line}: key {shown} already set in map")
        return name


def _mergeable(value: Any) -> list[JSON]:
    maps = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in maps):
        raise YAMLSyntaxError("yaml: map merge requires map or sequence of maps as the value")
    return maps


def _allowed_ratio(size: int) -> float:
    """How much of a document may come from aliases: much of a small one, little of a large one."""
    low, high = _RATIO_SIZES
    return 0.99 - 0.89 * min(max(size - low, 0) / (high - low), 1.0)


def _scalar(event: yaml.ScalarEvent) -> Any:
    bare, quoted = event.implicit
    if bare and event.tag is None:
        return _plain(event.value)
    if quoted or event.tag in ("!", f"{_TAG}str"):
        return event.value
    kind = (event.tag or "").removeprefix(_TAG)
    value = _plain(event.value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind != {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value)):
        raise YAMLSyntaxError(f"yaml: cannot decode {event.value!r} as a {event.tag}")
    return value


def is_text(text: str) -> bool:
    """Whether `text`, written without quotes, would be read as itself."""
    if len(text) > _LONGEST_WORD:
        return not (_integer(text) or _float(text))
    return bool(_plain(text) == text)


@functools.lru_cache(maxsize=2048)
def _plain(text: str) -> Any:
    """What a scalar without quotes means."""
    if text in _BOOLS:
        return _BOOLS[text]
    if text in _NULLS:
        return None
    if _integer(text):
        return _read_integer(text.replace("_", ""))
    if _float(text):
        return float(text)
    if text.lower() in _INFINITIES and text not in ("+.nan", "-.nan"):
        return float(_INFINITIES[text.lower()])
    return text


def _read_integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise YAMLSyntaxError("yaml: a number is too long")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if digits[:2] in ("0b", "0x", "0o"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


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
