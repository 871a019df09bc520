"""Operators and functions of CEL, with Kubernetes' libraries of lists, texts, regular expressions and formats.

A function is given evaluated arguments and raises EvaluationError; TypeError and AttributeError mean that it is not
defined for arguments of these types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twinstack.api.cel.libraries import LIBRARY_FUNCTIONS, LIBRARY_METHODS, LIBRARY_NAMESPACES
from twinstack.api.cel.syntax import UInt
from twinstack.api.cel.values import (
    NONE,
    EvaluationError,
    KeyedList,
    NoSuchOverload,
    Optional,
    Type,
    UniqueList,
    compare,
    duration_text,
    equal,
    is_number,
    parse_duration,
    parse_timestamp,
    timestamp_text,
    type_of,
)
from twinstack.api.structural.patterns import compiled

Function = Callable[..., Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES = {
    name: Type(name)
    for name in ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")
}


# --- operators


def _whole(value: int, like: Any) -> int:
    if isinstance(like, UInt):
        if not 0 <= value < 1 << 64:
            raise EvaluationError("unsigned integer overflow")
        return UInt(value)
    if not -(1 << 63) <= value < 1 << 63:
        raise EvaluationError("integer overflow")
    return value


def _same_numbers(one: Any, other: Any) -> bool:
    """Whether both are numbers of one type; arithmetic does not mix them."""
    if not is_number(one) or not is_number(other):
        return False
    if type_of(one) != type_of(other):
        raise NoSuchOverload
    return True


def _add(one: Any, other: Any) -> Any:
    if _same_numbers(one, other):
        return one + other if isinstance(one, float) else _whole(int(one) + int(other), one)
    if isinstance(one, UniqueList) and isinstance(other, list):
        return UniqueList([*one, *(item for item in other if not any(equal(item, have) for have in one))])
    if isinstance(one, KeyedList) and isinstance(other, list):
        return _add_keyed(one, other)
    if any(isinstance(one, kind) and isinstance(other, kind) for kind in (str, bytes, list)):
        return one + other
    times = (datetime, timedelta)
    if (
        isinstance(one, times)
        and isinstance(other, times)
        and not (isinstance(one, datetime) and isinstance(other, datetime))
    ):
        try:
            return one + other  # type: ignore[operator]
        except OverflowError:
            raise EvaluationError("timestamp overflow") from None
    raise NoSuchOverload


def _add_keyed(one: KeyedList, other: list[Any]) -> KeyedList:
    merged = {one.key_of(item): item for item in one} | {one.key_of(item): item for item in other}
    out = KeyedList(merged.values())
    out.keys = one.keys
    return out


def _subtract(one: Any, other: Any) -> Any:
    if _same_numbers(one, other):
        return one - other if isinstance(one, float) else _whole(int(one) - int(other), one)
    if isinstance(one, datetime) and isinstance(other, datetime | timedelta):
        return one - other
    if isinstance(one, timedelta) and isinstance(other, timedelta):
        return one - other
    raise NoSuchOverload


def _multiply(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other):
        raise NoSuchOverload
    return one * other if isinstance(one, float) else _whole(int(one) * int(other), one)


def _divide(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other):
        raise NoSuchOverload
    if isinstance(one, float):
        return one / other if other else math.nan if not one or math.isnan(one) else math.copysign(math.inf, one)
    if not other:
        raise EvaluationError("division by zero")
    quotient = abs(one) // abs(other)
    return _whole(quotient if (one < 0) == (other < 0) else -quotient, one)


def _modulus(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other) or isinstance(one, float):
        raise NoSuchOverload
    if not other:
        raise EvaluationError("modulus by zero")
    return _whole(int(math.copysign(1, one)) * (abs(one) % abs(other)), one)


def _negate(value: Any) -> Any:
    if not is_number(value) or isinstance(value, UInt):
        raise NoSuchOverload
    return -value if isinstance(value, float) else _whole(-value, value)


def _not(value: Any) -> bool:
    if type(value) is not bool:
        raise NoSuchOverload
    return not value


def _in(item: Any, where: Any) -> bool:
    if isinstance(where, dict):
        return not isinstance(item, list | dict) and item in where
    if isinstance(where, list):
        return any(equal(item, each) for each in where)
    raise NoSuchOverload


# --- conversions


def _int(value: Any) -> int:
    if isinstance(value, datetime):
        return int((value - _EPOCH).total_seconds())
    if isinstance(value, float):
        if not math.isfinite(value) or not -(2**63) < value < 2**63:
            raise EvaluationError("integer overflow")
        return int(value)
    if isinstance(value, str):
        if not re.fullmatch("[-+]?[0-9]+", value):
            raise EvaluationError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        return _whole(int(value), 0)
    if not is_number(value):
        raise NoSuchOverload
    return _whole(int(value), 0)


def _uint(value: Any) -> UInt:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoSuchOverload
    return UInt(_whole(_int(value), UInt(0)))


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoSuchOverload
    try:
        return float(value)
    except ValueError:
        raise EvaluationError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value == int(value) and abs(value) < 1e21 else repr(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, timedelta):
        return duration_text(value)
    if hasattr(value, "text"):
        return str(value.text())
    raise NoSuchOverload


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise NoSuchOverload
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise EvaluationError(f'strconv.ParseBool: parsing "{value}": invalid syntax')


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value)
    except ValueError:
        raise EvaluationError(f'time: invalid duration "{value}"') from None


def _timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int):
        return _EPOCH + timedelta(seconds=value)
    try:
        return parse_timestamp(value)
    except ValueError:
        raise EvaluationError(f'parsing time "{value}": cannot parse') from None


def _size(value: Any) -> int:
    if not isinstance(value, str | bytes | list | dict):
        raise NoSuchOverload
    return len(value)


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
    return value.name if isinstance(value, Type) else _string(value)


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
        total = _add(total, item)
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
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "%": _modulus,
    "in": _in,
    "!": _not,
    "neg": _negate,
    "size": _size,
    "int": _int,
    "uint": _uint,
    "double": _double,
    "string": _string,
    "bytes": _bytes,
    "bool": _bool,
    "duration": _duration,
    "timestamp": _timestamp,
    "type": type_of,
    "dyn": lambda value: value,
    "matches": _matches,
    **LIBRARY_FUNCTIONS,
}

METHODS: dict[str, Function] = {
    "size": _size,
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
