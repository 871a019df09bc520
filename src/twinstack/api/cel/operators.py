"""Operators of CEL, and conversions between its types. Each raises EvaluationError for what has no result."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from twinstack.api.cel.syntax import UInt
from twinstack.api.cel.values import (
    EvaluationError,
    KeyedList,
    NoSuchOverload,
    UniqueList,
    duration_text,
    equal,
    is_number,
    parse_duration,
    parse_timestamp,
    timestamp_text,
    type_of,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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


def add(one: Any, other: Any) -> Any:
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


def subtract(one: Any, other: Any) -> Any:
    if _same_numbers(one, other):
        return one - other if isinstance(one, float) else _whole(int(one) - int(other), one)
    if isinstance(one, datetime) and isinstance(other, datetime | timedelta):
        return one - other
    if isinstance(one, timedelta) and isinstance(other, timedelta):
        return one - other
    raise NoSuchOverload


def multiply(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other):
        raise NoSuchOverload
    return one * other if isinstance(one, float) else _whole(int(one) * int(other), one)


def divide(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other):
        raise NoSuchOverload
    if isinstance(one, float):
        return one / other if other else math.nan if not one or math.isnan(one) else math.copysign(math.inf, one)
    if not other:
        raise EvaluationError("division by zero")
    quotient = abs(one) // abs(other)
    return _whole(quotient if (one < 0) == (other < 0) else -quotient, one)


def modulus(one: Any, other: Any) -> Any:
    if not _same_numbers(one, other) or isinstance(one, float):
        raise NoSuchOverload
    if not other:
        raise EvaluationError("modulus by zero")
    return _whole(int(math.copysign(1, one)) * (abs(one) % abs(other)), one)


def negate(value: Any) -> Any:
    if not is_number(value) or isinstance(value, UInt):
        raise NoSuchOverload
    return -value if isinstance(value, float) else _whole(-value, value)


def negation(value: Any) -> bool:
    if type(value) is not bool:
        raise NoSuchOverload
    return not value


def contains(item: Any, where: Any) -> bool:
    if isinstance(where, dict):
        return not isinstance(item, list | dict) and item in where
    if isinstance(where, list):
        return any(equal(item, each) for each in where)
    raise NoSuchOverload


# --- conversions


def to_int(value: Any) -> int:
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


def to_uint(value: Any) -> UInt:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoSuchOverload
    return UInt(_whole(to_int(value), UInt(0)))


def to_double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoSuchOverload
    try:
        return float(value)
    except ValueError:
        raise EvaluationError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def to_string(value: Any) -> str:
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


def to_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise NoSuchOverload
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise EvaluationError(f'strconv.ParseBool: parsing "{value}": invalid syntax')


def to_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value)
    except ValueError:
        raise EvaluationError(f'time: invalid duration "{value}"') from None


def to_timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int):
        return _EPOCH + timedelta(seconds=value)
    try:
        return parse_timestamp(value)
    except ValueError:
        raise EvaluationError(f'parsing time "{value}": cannot parse') from None


def size(value: Any) -> int:
    if not isinstance(value, str | bytes | list | dict):
        raise NoSuchOverload
    return len(value)
