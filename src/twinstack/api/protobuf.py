"""Protobuf request bodies read into the same objects as JSON ones, by the table's field numbers.

Clients in Go send built-in kinds this way without being asked (kubectl since 1.32, Helm, the control plane). A body
is four magic bytes and a `runtime.Unknown`: type in field 1, the object's own message in field 2. Go's encoder
writes every field that is no pointer, so zero values mean nothing and the check of the object drops them.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable
from typing import Any

from twinstack.api import jsontext, nesting, times
from twinstack.api.schema import Field, get_type, type_of_kind

JSON = dict[str, Any]

MAGIC = b"k8s\x00"
_DELETE_OPTIONS = "meta.v1.DeleteOptions"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64


class DecodeError(ValueError):
    """The bytes are not what they should be."""


def decode(body: bytes) -> JSON:
    """Read a body. Raises DecodeError, also for a kind the table has no field numbers for."""
    if not body.startswith(MAGIC):
        raise DecodeError(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
            if body
            else "empty data"
        )
    try:
        obj = _decode_envelope(memoryview(body)[len(MAGIC) :])
    except UnicodeDecodeError as error:
        raise DecodeError("malformed protobuf message: string field contains invalid UTF-8") from error
    except IndexError as error:
        raise DecodeError("malformed protobuf message: it is cut short") from error
    except (TypeError, struct.error) as error:
        raise DecodeError("malformed protobuf message: a value is not of its field's type") from error
    except (OverflowError, jsontext.JSONSyntaxError) as error:
        raise DecodeError(f"malformed protobuf message: {error}") from error
    problem = nesting.problem(obj)
    if problem:
        raise DecodeError(f"malformed protobuf message: {problem}")
    return obj


def _decode_envelope(data: memoryview) -> JSON:
    api_version, kind, raw = "", "", data[:0]
    for number, wire, value in _records(data):
        if wire != _BYTES:
            continue
        if number == 1:
            for inner, inner_wire, text in _records(value):
                if inner_wire == _BYTES and inner in (1, 2):
                    name = str(text, "utf-8")
                    api_version, kind = (name, kind) if inner == 1 else (api_version, name)
        elif number == 2:
            raw = value
    type_name = _DELETE_OPTIONS if kind == "DeleteOptions" else type_of_kind(api_version, kind)
    if type_name is None:
        raise DecodeError(f'no kind "{kind}" is registered for version "{api_version}"')
    obj = _message(raw, type_name, 0)
    return {"apiVersion": api_version, "kind": kind} | obj


def _records(data: memoryview) -> list[tuple[int, int, Any]]:
    """(field number, wire type, value) of every field; values are ints or slices."""
    records: list[tuple[int, int, Any]] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value, position = _varint(data, position)
        elif wire == _BYTES:
            length, position = _varint(data, position)
            value, position = data[position : position + length], position + length
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
            value, position = data[position : position + size], position + size
        else:
            raise DecodeError(f"malformed protobuf message: wire type {wire}")
        if position > end:
            raise DecodeError("malformed protobuf message: it is cut short")
        records.append((tag >> 3, wire, value))
    return records


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise DecodeError("malformed protobuf message: a number is too long")


class _Slot:
    """How one field number is read into an object."""

    __slots__ = ("container", "name", "read")

    def __init__(self, name: str, container: str, read: Callable[[Any, int], Any]) -> None:
        self.name = name
        self.container = container
        self.read = read


@functools.cache
def _slots(type_name: str) -> dict[int, _Slot]:
    described = get_type(type_name)
    slots = {
        field.number: _Slot(name, field.container, _reader(field))
        for name, field in described.fields.items()
        if field.number
    }
    if not slots and not described.inline and set(described.fields) - {"apiVersion", "kind"}:
        raise DecodeError(f"objects of type {type_name} are not read from protobuf")
    for number, message in described.inline.items():
        slots[number] = _Slot("", "", functools.partial(_read_message, message))
    return slots


def _read_message(type_name: str, data: memoryview, depth: int) -> JSON:
    return _message(data, type_name, depth + 1)


def _message(data: memoryview, type_name: str, depth: int) -> JSON:
    if depth > _MAX_DEPTH:
        raise DecodeError("malformed protobuf message: nested too deep")
    slots = _slots(type_name)
    out: JSON = {}
    for number, _wire, value in _records(data):
        slot = slots.get(number)
        if slot is None:
            continue
        if slot.container == "[]":
            out.setdefault(slot.name, []).append(slot.read(value, depth))
        elif slot.container:
            _add_entry(out.setdefault(slot.name, {}), slot, value, depth)
        elif slot.name:
            out[slot.name] = slot.read(value, depth)
        else:
            out |= slot.read(value, depth)
    return out


def _add_entry(into: JSON, slot: _Slot, entry: memoryview, depth: int) -> None:
    """One entry of a map: key in field 1, value in field 2."""
    key, found = "", memoryview(b"")
    for number, _wire, value in _records(entry):
        if number == 1:
            key = str(value, "utf-8")
        elif number == 2:
            found = value
    if slot.container == "{}[]":  # lists are wrapped: {1: repeated value}
        into[key] = [slot.read(item, depth) for number, _wire, item in _records(found) if number == 1]
    else:
        into[key] = slot.read(found, depth)


def _reader(field: Field) -> Callable[[Any, int], Any]:
    if field.is_object:
        return functools.partial(_read_message, field.type)
    return _READERS[field.type]


def _signed(value: Any, _depth: int) -> int:
    number = int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def _text(value: Any, _depth: int) -> str:
    return str(value, "utf-8")


def _single(data: Any, number: int, default: Any) -> Any:
    """The last value of one field of a small message."""
    result = default
    for found, _wire, value in _records(data):
        if found == number:
            result = value
    return result


def _time(data: Any, depth: int) -> str | None:
    if not len(data):
        return None
    return times.format_time(_within(_SECONDS, _single(data, 1, 0), depth))


def _micro_time(data: Any, depth: int) -> str | None:
    if not len(data):
        return None
    nanoseconds = _within(_NANOSECONDS, _single(data, 2, 0), depth)
    return f"{times.format_time(_within(_SECONDS, _single(data, 1, 0), depth))[:-1]}.{nanoseconds // 1000:06d}Z"


_SECONDS = range(-30_610_224_000, 253_402_300_800)  # Unix times of years with four digits: RFC 3339 writes no others
_NANOSECONDS = range(10**9)


def _within(bounds: range, value: Any, depth: int) -> int:
    number = _signed(value, depth)
    if number not in bounds:
        raise OverflowError("a time is out of range")
    return number


def _int_or_string(data: Any, depth: int) -> int | str:
    if _single(data, 1, 0) == 1:
        return _text(_single(data, 3, b""), depth)
    return _signed(_single(data, 2, 0), depth)


def _quantity(data: Any, depth: int) -> str:
    return _text(_single(data, 1, b""), depth) or "0"


def _raw_json(data: Any, _depth: int) -> Any:
    raw = bytes(_single(data, 1, b""))
    return jsontext.decode(raw) if raw else None


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "string": _text,
    "bool": lambda value, _depth: bool(value),
    "int32": _signed,
    "int64": _signed,
    "float64": lambda value, _depth: struct.unpack("<d", value)[0],
    "bytes": lambda value, _depth: base64.b64encode(value).decode(),
    "time": _time,
    "microtime": _micro_time,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "any": _raw_json,
}
