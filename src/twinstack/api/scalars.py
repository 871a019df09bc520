"""Values that are strings on the wire and more than strings: times, quantities, base64.

Each `canonical_…` function reads a text and returns the one that the API server stores, or raises ValueError in
the words of the Go library that reads it there.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from decimal import ROUND_CEILING, ROUND_UP, Decimal

from twinstack.api.errors import go_value

# Times ---------------------------------------------------------------------------------------------------------

_TIME_LAYOUT = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"
_DATE_ELEMENTS = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
    ("15", r"\d\d"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d"),
)  # fmt: skip
_ZONE = ("Z07:00", r"Z|[+-]\d\d:\d\d")
_TIME_ELEMENTS = (*_DATE_ELEMENTS, ("", r"(?:[.,]\d+)?"), _ZONE)
_MICRO_ELEMENTS = (*_DATE_ELEMENTS, (".000000", r"[.,]\d{6}"), _ZONE)
_BEFORE_FRACTION = r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)"
_AFTER_FRACTION = r"(?:Z|([+-])(\d\d):(\d\d))"
_time = re.compile(rf"{_BEFORE_FRACTION}(?:[.,](\d+))?{_AFTER_FRACTION}", re.ASCII).fullmatch
_CANONICAL_LENGTH = len("2006-01-02T15:04:05Z")
_micro_time = re.compile(rf"{_BEFORE_FRACTION}[.,](\d{{6}}){_AFTER_FRACTION}", re.ASCII).fullmatch


def canonical_time(text: str) -> str:
    """meta/v1 Time: any RFC 3339 text becomes UTC, whole seconds."""
    fields = _time(text)
    if fields is None:
        raise _unreadable_time(text, _TIME_LAYOUT, _TIME_ELEMENTS)
    instant = _instant(text, fields)
    if len(text) == _CANONICAL_LENGTH and instant.year >= 1000:
        return text  # as all are that have been read before
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical_micro_time(text: str) -> str:
    """meta/v1 MicroTime: exactly six digits of fraction."""
    fields = _micro_time(text)
    if fields is None:
        raise _unreadable_time(text, _MICRO_LAYOUT, _MICRO_ELEMENTS)
    instant = _instant(text, fields)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond:06d}Z"


def _unreadable_time(text: str, layout: str, elements: tuple[tuple[str, str], ...]) -> ValueError:
    """The error of a text that does not fit: the first element that it lacks, or what is too much."""
    position = 0
    for element, pattern in elements:
        match = re.compile(pattern, re.ASCII).match(text, position)
        if not match:
            rest = go_value(text[position:])
            return ValueError(
                f"parsing time {go_value(text)} as {go_value(layout)}: cannot parse {rest} as {go_value(element)}"
            )
        position = match.end()
    return ValueError(f"parsing time {go_value(text)}: extra text: {go_value(text[position:])}")


def _instant(text: str, fields: re.Match[str]) -> datetime.datetime:
    """Without its zone, at UTC."""
    year, month, day, hour, minute, second = (int(fields[i]) for i in range(1, 7))
    _check_ranges(text, year, month, day, hour, minute, second)
    micro = int((fields[7] or "0")[:6].ljust(6, "0"))
    instant = datetime.datetime(max(year, 1), month, day, hour, minute, second, micro)
    if fields[8]:
        offset = datetime.timedelta(hours=int(fields[9]), minutes=int(fields[10]))
        try:
            instant += -offset if fields[8] == "+" else offset
        except OverflowError:
            raise ValueError(f"parsing time {go_value(text)}: out of range") from None
    return instant


def _check_ranges(text: str, year: int, month: int, day: int, hour: int, minute: int, second: int) -> None:
    last_day = 31 if month in (1, 3, 5, 7, 8, 10, 12) else 30
    if month == 2:
        last_day = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    for name, good in (
        ("month", 1 <= month <= 12),
        ("hour", hour < 24),
        ("minute", minute < 60),
        ("second", second < 60),
        ("day", 1 <= day <= last_day),
    ):
        if not good:
            raise ValueError(f"parsing time {go_value(text)}: {name} out of range")


# Quantities ----------------------------------------------------------------------------------------------------

_QUANTITY_RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_quantity = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_number = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_exponent = re.compile(r"[eE]([-+]?\d+)", re.ASCII)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_MAX = Decimal(2**63 - 1)
_NANO, _MILLI = Decimal("1e-9"), Decimal("1e-3")


def quantity(text: str) -> Decimal:
    """The number that a resource quantity stands for. Raises ValueError."""
    return _parse_quantity(text)[0]


def canonical_amount(text: str) -> str:
    """A quantity in a list of resources: rounded up to thousandths."""
    return canonical_quantity(text, _MILLI)


def canonical_quantity(text: str, precision: Decimal = _NANO) -> str:
    """The shortest text of the same kind (binary, decimal or with exponent) that loses nothing."""
    value, kind = _parse_quantity(text)
    if precision != _NANO and abs(value) < _MAX:
        value = value.quantize(precision, ROUND_CEILING)
    return _quantity_text(value, kind)


def quantity_sum(first: str, second: str, sign: int = 1) -> str:
    """`first` and `sign` times `second`, in the form of the first one unless that is nothing."""
    value, kind = _parse_quantity(first)
    other, other_kind = _parse_quantity(second)
    total, kind = value + sign * other, kind if value else other_kind
    if kind == "binary" and total != total.to_integral_value():
        kind = "decimal"  # a binary form would round it
    return _quantity_text(total, kind)


def _quantity_text(value: Decimal, kind: str) -> str:
    if value == 0:
        return "0"
    if kind == "binary" and -1024 < value < 1024:
        kind = "decimal"
    if kind == "binary":
        whole = int(value.to_integral_value(ROUND_UP))
        return _with_binary_suffix(whole)
    sign, digits, exponent = value.normalize().as_tuple()
    assert isinstance(exponent, int)
    power = exponent // 3 * 3
    mantissa = "".join(map(str, digits)) + "0" * (exponent - power)
    if kind == "decimal" and power > 18:
        mantissa, power = mantissa + "0" * (power - 18), 18
    suffix = _DECIMAL_SUFFIX[power] if kind == "decimal" else f"e{power}" if power else ""
    return f"{'-' if sign else ''}{mantissa}{suffix}"


def _with_binary_suffix(whole: int) -> str:
    suffix = ""
    for name, bits in _BINARY.items():
        if whole % (1 << bits):
            break
        suffix = name
    return f"{whole >> _BINARY[suffix] if suffix else whole}{suffix}"


def _parse_quantity(text: str) -> tuple[Decimal, str]:
    match = _quantity.fullmatch(text)
    if not match:
        raise ValueError(_QUANTITY_RULE)
    number, suffix = match.groups()
    if not _number.fullmatch(number):
        raise ValueError("unable to parse numeric part of quantity")
    value = Decimal(number)
    if suffix in _BINARY:
        value, kind = value * (1 << _BINARY[suffix]), "binary"
    elif suffix in _DECIMAL:
        value, kind = value.scaleb(_DECIMAL[suffix]), "decimal"
    else:
        exponent = _exponent.fullmatch(suffix)
        if not exponent or abs(int(exponent[1])) > 1000:
            raise ValueError("unable to parse quantity's suffix")
        value, kind = value.scaleb(int(exponent[1])), "exponent"
    rounded = value.quantize(_NANO, ROUND_UP) if abs(value) < _MAX else value
    return max(min(rounded, _MAX), -_MAX), kind


# Base64 --------------------------------------------------------------------------------------------------------

_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def canonical_base64(text: str) -> str:
    """Standard base64 with padding; line breaks are dropped."""
    data = text.encode()
    offset = _bad_base64(data)
    if offset is not None:
        raise ValueError(f"illegal base64 data at input byte {offset}")
    return base64.b64encode(binascii.a2b_base64(data)).decode()


def _bad_base64(data: bytes) -> int | None:
    """Where a strict decoder stops, counted as Go's does; None if all is well."""
    filled = 0  # characters of the current group of four
    for i, byte in enumerate(data):
        if byte in b"\r\n":
            continue
        if byte in _ALPHABET:
            filled = (filled + 1) % 4
            continue
        if byte != ord("=") or filled < 2:
            return i
        rest = [(j, b) for j, b in enumerate(data[i + 1 :], i + 1) if b not in b"\r\n"]
        if filled == 2:
            if not rest:
                return len(data)
            if rest[0][1] != ord("="):
                return rest[0][0] - 1
            rest = rest[1:]
        return rest[0][0] if rest else None
    return len(data) - filled if filled else None
