"""Operators and functions of CEL, with Kubernetes' libraries of lists, texts, regular expressions and formats.

A function is given evaluated arguments and raises EvaluationError; TypeError and AttributeError mean that it is not
defined for arguments of these types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twinstack.api.cel import operators
from twinstack.api.cel.libraries import LIBRARY_FUNCTIONS, LIBRARY_METHODS, LIBRARY_NAMESPACES
from twinstack.api.cel.values import (
    NONE,
    EvaluationError,
    NoSuchOverload,
    Optional,
    Type,
    compare,
    equal,
    type_of,
)
from twinstack.api.structural.patterns import compiled

Function = Callable[..., Any]

TYPES = {
    name: Type(name)
    for name in ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")
}


# --- texts


def _text_only(function: Function) -> Function:
    def checked(value: Any, *rest: Any) -> Any:
        if not isinstance(value, str):
            raise NoSuchOverload
        return function(value, *rest)

    return checked


def _matches(text: str, pattern: str) -> bool:
    return _regex(pattern).search(text) is not None


def _regex(pattern: str) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise NoSuchOverload
    try:
        return compiled(pattern)
    except ValueError as error:
        raise EvaluationError(f"error parsing regexp: {error}") from None


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise EvaluationError(f"index out of range: {at}")
    return text[at : at + 1]


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= len(text) or not 0 <= stop <= len(text):
        raise EvaluationError(f"index out of range: {start if not 0 <= start <= len(text) else stop}")
    if stop < start:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator == "":
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _index_of(value: Any, item: Any, start: int = 0) -> int:
    if isinstance(value, list):
        return next((i for i, each in enumerate(value) if equal(each, item)), -1)
    if not 0 <= start <= len(value):
        raise EvaluationError(f"index out of range: {start}")
    return int(value.find(item, start))


def _last_index_of(value: Any, item: Any, end: int | None = None) -> int:
    if isinstance(value, list):
        return next((i for i in reversed(range(len(value))) if equal(value[i], item)), -1)
    return int(value.rfind(item) if end is None else value.rfind(item, 0, end + len(item)))


def _find(text: str, pattern: str) -> str:
    found = _regex(pattern).search(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in _regex(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _join(items: Any, separator: str = "") -> str:
    if not isinstance(items, list):
        raise NoSuchOverload
    return separator.join(items)


def _ascii(change: Callable[[str], str]) -> Function:
    return lambda text: "".join(change(char) if char.isascii() else char for char in text)


def _quote(text: str) -> str:
    from twinstack.api.gotext import go_quote

    return go_quote(text)


_DIRECTIVE = re.compile(r"%(?:\.(\d+))?([%sdfexXob])")


def _format(text: str, values: list[Any]) -> str:
    left = iter(values)

    def shown(match: re.Match[str]) -> str:
        digits, verb = match.groups()
        if verb == "%":
            return "%"
        value: Any = next(left, NONE)
        if value is NONE:
            raise EvaluationError(f"index {len(values)} out of range")
        if verb in "fe":
            return f"{float(value):.{digits or 6}{verb}}"
        if verb == "s":
            return _shown(value)
        if verb in "xX" and isinstance(value, str | bytes):
            hexed = (value.encode() if isinstance(value, str) else value).hex()
            return hexed.upper() if verb == "X" else hexed
        return format(int(value), verb)

    return _DIRECTIVE.sub(shown, text)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_shown(key)}: {_shown(item)}' for key, item in value.items()))}}}"
    return value.name if isinstance(value, Type) else operators.to_string(value)


# --- lists


def _list_only(function: Function) -> Function:
    def checked(value: Any, *rest: Any) -> Any:
        if not isinstance(value, list):
            raise NoSuchOverload
        return function(value, *rest)

    return checked


def _is_sorted(items: list[Any]) -> bool:
    return all(compare(one, other) <= 0 for one, other in pairwise(items))


def _sum(items: list[Any]) -> Any:
    total: Any = items[0] if items else 0
    for item in items[1:]:
        total = operators.add(total, item)
    return total


def _extreme(items: list[Any], sign: int, name: str) -> Any:
    if not items:
        raise EvaluationError(f"{name} called on empty list")
    best = items[0]
    for item in items[1:]:
        if compare(item, best) * sign > 0:
            best = item
    return best


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth > 0:
            out += _flatten(item, depth - 1)
        else:
            out.append(item)
    return out


def _distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not any(equal(item, have) for have in out):
            out.append(item)
    return out


def _sorted(items: list[Any]) -> list[Any]:
    for item in items:
        compare(item, items[0])
    return sorted(items)


# --- times


def _moment(value: datetime, zone: str) -> datetime:
    if not zone:
        return value
    offset = re.fullmatch(r"([-+]?)(\d\d):(\d\d)", zone)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return value + timedelta(minutes=-minutes if offset[1] == "-" else minutes)
    try:
        return value.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        raise EvaluationError(f"unknown time zone {zone}") from None


def _part(of_time: Callable[[datetime], int], seconds: int = 0, modulus: int = 0) -> Function:
    """A part of a timestamp, or a duration counted in units of so many seconds."""

    def part(value: Any, zone: str = "") -> int:
        if isinstance(value, timedelta):
            if not seconds and not modulus:
                raise NoSuchOverload
            if modulus:
                return int(value / timedelta(milliseconds=1)) % modulus
            return int(value.total_seconds() / seconds)
        if not isinstance(value, datetime):
            raise NoSuchOverload
        return of_time(_moment(value, zone))

    return part


# --- optionals


def _optional_of(value: Any) -> Optional:
    return Optional(value)


def _of_non_zero(value: Any) -> Optional:
    return Optional(value) if value or isinstance(value, datetime) else NONE


def _optional_value(value: Any) -> Any:
    if not value.has:
        raise EvaluationError("optional.none() dereference")
    return value.value


FUNCTIONS: dict[str, Function] = {
    "==": equal,
    "!=": lambda one, other: not equal(one, other),
    "<": lambda one, other: compare(one, other) < 0,
    "<=": lambda one, other: compare(one, other) <= 0,
    ">": lambda one, other: compare(one, other) > 0,
    ">=": lambda one, other: compare(one, other) >= 0,
    "+": operators.add,
    "-": operators.subtract,
    "*": operators.multiply,
    "/": operators.divide,
    "%": operators.modulus,
    "in": operators.contains,
    "!": operators.negation,
    "neg": operators.negate,
    "size": operators.size,
    "int": operators.to_int,
    "uint": operators.to_uint,
    "double": operators.to_double,
    "string": operators.to_string,
    "bytes": operators.to_bytes,
    "bool": operators.to_bool,
    "duration": operators.to_duration,
    "timestamp": operators.to_timestamp,
    "type": type_of,
    "dyn": lambda value: value,
    "matches": _matches,
    **LIBRARY_FUNCTIONS,
}

METHODS: dict[str, Function] = {
    "size": operators.size,
    "contains": _text_only(lambda text, part: part in text),
    "startsWith": _text_only(str.startswith),
    "endsWith": _text_only(str.endswith),
    "matches": _text_only(_matches),
    "charAt": _text_only(_char_at),
    "substring": _text_only(_substring),
    "split": _text_only(_split),
    "replace": _text_only(lambda text, old, new, limit=-1: text.replace(old, new, limit)),
    "trim": _text_only(str.strip),
    "lowerAscii": _text_only(_ascii(str.lower)),
    "upperAscii": _text_only(_ascii(str.upper)),
    "format": _text_only(_format),
    "find": _text_only(_find),
    "findAll": _text_only(_find_all),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "join": _join,
    "reverse": lambda value: value[::-1],
    "isSorted": _list_only(_is_sorted),
    "sum": _list_only(_sum),
    "min": _list_only(lambda items: _extreme(items, -1, "min")),
    "max": _list_only(lambda items: _extreme(items, 1, "max")),
    "slice": _list_only(_slice),
    "flatten": _list_only(_flatten),
    "distinct": _list_only(_distinct),
    "sort": _list_only(_sorted),
    "first": _list_only(lambda items: Optional(items[0]) if items else NONE),
    "last": _list_only(lambda items: Optional(items[-1]) if items else NONE),
    "getFullYear": _part(lambda moment: moment.year),
    "getMonth": _part(lambda moment: moment.month - 1),
    "getDate": _part(lambda moment: moment.day),
    "getDayOfMonth": _part(lambda moment: moment.day - 1),
    "getDayOfWeek": _part(lambda moment: moment.isoweekday() % 7),
    "getDayOfYear": _part(lambda moment: moment.timetuple().tm_yday - 1),
    "getHours": _part(lambda moment: moment.hour, 3600),
    "getMinutes": _part(lambda moment: moment.minute, 60),
    "getSeconds": _part(lambda moment: moment.second, 1),
    "getMilliseconds": _part(lambda moment: moment.microsecond // 1000, 0, 1000),
    "hasValue": lambda value: value.has,
    "value": _optional_value,
    "or": lambda value, other: value if value.has else other,
    "orValue": lambda value, other: value.value if value.has else other,
    **LIBRARY_METHODS,
}

NAMESPACES: dict[tuple[str, str], Function] = {
    ("optional", "of"): _optional_of,
    ("optional", "ofNonZeroValue"): _of_non_zero,
    ("optional", "none"): lambda: NONE,
    ("strings", "quote"): _quote,
    ("math", "greatest"): lambda *values: _extreme(list(values[0] if len(values) == 1 else values), 1, "max"),
    ("math", "least"): lambda *values: _extreme(list(values[0] if len(values) == 1 else values), -1, "min"),
    ("math", "abs"): abs,
    ("math", "ceil"): lambda value: float(math.ceil(value)),
    ("math", "floor"): lambda value: float(math.floor(value)),
    **LIBRARY_NAMESPACES,
}
