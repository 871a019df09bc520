"""WebSocket messages over bytes (RFC 6455). Pure: both sides of the wire, no sockets."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

LONGEST = 32 << 20  # bytes of a message, as upstream's server takes
_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SHORT, _MIDDLE = 125, 0xFFFF  # payloads whose length fits into 7 bits, into 16 bits


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


NORMAL, PROTOCOL_ERROR, TOO_BIG = 1000, 1002, 1009  # close codes (section 7.4.1)


class ProtocolError(Exception):
    """The peer breaks the protocol; `code` is for the close frame."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Message(NamedTuple):
    """A whole message, or a control frame."""

    opcode: Opcode
    payload: bytes


class _Head(NamedTuple):
    opcode: Opcode
    final: bool
    start: int  # where the mask or the payload begins
    length: int
    masked: bool


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + _KEY_SALT).digest()).decode()


def frame(opcode: Opcode, payload: bytes, mask: bytes = b"") -> bytes:
    """One unfragmented frame. Clients give a mask of four bytes, servers none."""
    masked = 0x80 if mask else 0
    length = len(payload)
    if length <= _SHORT:
        head = struct.pack("!BB", 0x80 | opcode, masked | length)
    elif length <= _MIDDLE:
        head = struct.pack("!BBH", 0x80 | opcode, masked | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, masked | 127, length)
    return head + mask + _masked(payload, mask) if mask else head + payload


def close_frame(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode()[: _SHORT - 2], mask)


class Decoder:
    """One direction of a connection. `masked`: the peer is a client, and must mask its frames."""

    def __init__(self, *, masked: bool = True, limit: int = LONGEST) -> None:
        self._masked = masked
        self._limit = limit
        self._buffer = bytearray()
        self._kind: Opcode | None = None  # of the message whose fragments are being collected
        self._parts = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises ProtocolError; then the connection is of no more use."""
        self._buffer += data
        while (head := self._head()) is not None:
            start = head.start + (4 if head.masked else 0)
            if len(self._buffer) < start + head.length:
                return
            payload = bytes(self._buffer[start : start + head.length])
            if head.masked:
                payload = _masked(payload, bytes(self._buffer[head.start : start]))
            del self._buffer[: start + head.length]
            message = self._take(head, payload)
            if message is not None:
                yield message

    def _head(self) -> _Head | None:
        """The next frame's head, checked; None while it is not all there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        length, start = second & 0x7F, 2
        if length == 126:
            start = 4
        elif length == 127:
            start = 10
        if len(buffer) < start:
            return None
        if start > 2:
            length = int.from_bytes(buffer[2:start], "big")
        if first & 0x70:
            raise ProtocolError(PROTOCOL_ERROR, "reserved bits are set")
        if first & 0x0F not in list(Opcode):
            raise ProtocolError(PROTOCOL_ERROR, f"unknown opcode {first & 0x0F}")
        head = _Head(Opcode(first & 0x0F), bool(first & 0x80), start, length, bool(second & 0x80))
        self._check(head)
        return head

    def _check(self, head: _Head) -> None:
        if head.masked is not self._masked:
            raise ProtocolError(PROTOCOL_ERROR, "frames of clients must be masked, those of servers not")
        if head.opcode >= Opcode.CLOSE:
            if not head.final or head.length > _SHORT:
                raise ProtocolError(PROTOCOL_ERROR, "a control frame must be whole and short")
        elif (head.opcode is Opcode.CONTINUATION) is (self._kind is None):
            raise ProtocolError(PROTOCOL_ERROR, "a continuation is out of place")
        elif len(self._parts) + head.length > self._limit:
            raise ProtocolError(TOO_BIG, f"a message is longer than {self._limit} bytes")

    def _take(self, head: _Head, payload: bytes) -> Message | None:
        if head.opcode >= Opcode.CLOSE:
            return Message(head.opcode, payload)
        kind = head.opcode if self._kind is None else self._kind
        if head.final and not self._parts:
            self._kind = None
            return Message(kind, payload)
        self._kind = kind
        self._parts += payload
        if not head.final:
            return None
        whole, self._parts, self._kind = bytes(self._parts), bytearray(), None
        return Message(kind, whole)


def _masked(payload: bytes, mask: bytes) -> bytes:
    """Masking and its own inverse (section 5.3), as one number, which is the fastest way here."""
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")
