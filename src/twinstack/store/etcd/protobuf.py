"""The wire format of protocol buffers: what little of it etcd's messages need. Pure.

A field is left out where its value is zero or empty, as proto3 does; `exact_*` write it all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no message."""


def varint(number: int) -> bytes:
    """An unsigned number of up to 64 bits."""
    if number < 0x80:
        return bytes((number,))
    octets = bytearray()
    while number > 0x7F:
        octets.append(0x80 | number & 0x7F)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def exact_number(field: int, number: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(number)


def exact_bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | _BYTES) + varint(len(value)) + value


def number(field: int, value: int) -> bytes:
    return exact_number(field, value) if value else b""


def octets(field: int, value: bytes) -> bytes:
    return exact_bytes(field, value) if value else b""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values in the order in which they come. Raises WireError."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _read_varint(message, at)
            if at + length > end:
                raise WireError("a field is cut off")
            yield tag >> 3, message[at : at + length]
            at += length
        elif kind == _VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise WireError(f"wire type {kind}")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    try:
        octet = message[at]
        if octet < 0x80:
            return octet, at + 1
        value, shift = octet & 0x7F, 7
        while shift < 70:
            at += 1
            octet = message[at]
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                return value, at + 1
            shift += 7
    except IndexError:
        raise WireError("a number is cut off") from None
    raise WireError("a number is too long")


def as_bytes(value: int | bytes) -> bytes:
    """Raises WireError."""
    if isinstance(value, bytes):
        return value
    raise WireError("a number where bytes belong")


def as_number(value: int | bytes) -> int:
    """Raises WireError."""
    if isinstance(value, int):
        return value
    raise WireError("bytes where a number belongs")
