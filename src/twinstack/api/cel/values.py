"""Values that CEL has and JSON has not, and how values compare. Pure.

int, double, string, bytes, bool, list, map and null are Python's int, float, str, bytes, bool, list, dict and None.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from twinstack.api.cel.syntax import UInt


class EvaluationError(Exception):
    """Why an expression has no value, in the words of cel-go."""


class NoSuchOverload(EvaluationError):
    """An operation that is not defined for the types of its arguments."""

    def __init__(self) -> None:
        super().__init__("no such overload")


class Type(NamedTuple):
    """The value of `type(x)`, and names such as `int` themselves."""

    name: str


class Optional:
    """A value that may be absent: `optional.of(x)`, `optional.none()`, `a.?b`."""

    __slots__ = ("has", "value")

    def __init__(self, value: Any = None, *, has: bool = True) -> None:
        self.value = value
        self.has = has


NONE = Optional(has=False)


class UniqueList(list[Any]):
    """A list whose order does not count (`x-kubernetes-list-type: set`)."""


class KeyedList(list[Any]):
    """A list whose items are found by keys (`x-kubernetes-list-type: map`)."""

    keys: tuple[str, ...] = ()

    def key_of(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(name) if isinstance(item, dict) else None for name in self.keys)


_NAMES = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    type(None): "null_type",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    Type: "type",
    Optional: "optional_type",
}


def type_of(value: Any) -> Type:
    for kind in type(value).__mro__:
        if kind in _NAMES:
            return Type(_NAMES[kind])
    return Type(type(value).__name__)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Any, other: Any) -> bool:
    """Equality over types: numbers by value, everything else of different types differs."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_number(one) and is_number(other):
        return bool(one == other)
    if isinstance(one, list) and isinstance(other, list):
        return _equal_lists(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, Optional) and isinstance(other, Optional):
        return one.has == other.has and (not one.has or equal(one.value, other.value))
    return type(one) is type(other) and bool(one == other)


def _equal_lists(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, UniqueList):
        return all(any(equal(item, found) for found in other) for item in one)
    if isinstance(one, KeyedList):
        by_key = {one.key_of(item): item for item in other}
        return all(equal(item, by_key.get(one.key_of(item))) for item in one)
    return all(map(equal, one, other))


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1. Raises NoSuchOverload for values without an order."""
    same = type(one) is type(other) and isinstance(one, str | bytes | bool | datetime | timedelta)
    if not same and not (is_number(one) and is_number(other)):
        raise NoSuchOverload
    return int(one > other) - int(one < other)


_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[-+]?(?:0|(?:{_DURATION_PART.pattern})+)")
_MICROSECONDS = {"ns": 1e-3, "us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}


def parse_duration(text: str) -> timedelta:
    """Go's `1h30m`. Raises ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    total = sum(float(number) * _MICROSECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    try:
        return timedelta(microseconds=-total if text[0] == "-" else total)
    except OverflowError as error:
        raise ValueError(text) from error


def duration_text(value: timedelta) -> str:
    seconds = value.total_seconds()
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:.6f}".rstrip("0") + "s"


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:[Zz]|([-+]\d\d:\d\d))")


def parse_timestamp(text: str) -> datetime:
    """RFC 3339. Raises ValueError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(text)
    date, clock, fraction, zone = match.groups()
    return datetime.fromisoformat(f"{date}T{clock}{(fraction or '.0')[:7]:0<7}{zone or '+00:00'}").astimezone(UTC)


def timestamp_text(value: datetime) -> str:
    text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{f'.{value.microsecond:06d}'.rstrip('0') if value.microsecond else ''}Z"
