"""One call of grpc.health.v1.Health/Check over HTTP/2 without TLS (v1 GRPCAction; RFC 9113, RFC 7541).

The request's headers are literals, so that nothing has to be compressed; of the answer only the message is read.
"""

from __future__ import annotations

import asyncio
import struct

from twinstack.node.probes.dialing import dial_error, join

SERVING = 1
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 1, 4, 1, 8
_STREAM = 1
_FRAMES = 100  # that an answer may have


class RpcError(Exception):
    """The call did not come to an answer; the text is kubelet's."""


def status_name(status: int) -> str:
    return STATUSES[status] if 0 <= status < len(STATUSES) else str(status)


async def check(host: str, port: int, service: str, timeout: float) -> int:
    """The ServingStatus of a service (empty: of the server). Raises RpcError."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request(join(host, port), service))
                return await _answer(reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        raise RpcError(f"timeout: health rpc did not complete within {timeout:.0f}s") from None
    except asyncio.IncompleteReadError:
        raise RpcError(_unavailable("error reading server preface: EOF")) from None
    except OSError as error:
        text = f'connection error: desc = "transport: Error while dialing: {dial_error(host, port, error)}"'
        raise RpcError(_unavailable(text)) from None


def _unavailable(text: str) -> str:
    return f"error: health rpc probe failed: rpc error: code = Unavailable desc = {text}"


def request(authority: str, service: str) -> bytes:
    """All that the client says: preface, settings, headers, the HealthCheckRequest."""
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "kube-probe/1.36"),
        ("te", "trailers"),
    )
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    body = struct.pack(">BI", 0, len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, block)
        + _frame(_DATA, _END_STREAM, _STREAM, body)
    )


def _text(value: str) -> bytes:
    """A string of HPACK, as it is; shorter than 127 bytes plus 127 (RFC 7541 5.1, 5.2)."""
    data = value.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first: of protobuf and of HPACK."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    message = b""
    for _ in range(_FRAMES):
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        payload = await reader.readexactly(length)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _DATA:
            message += payload[1 : length - payload[0]] if flags & _PADDED else payload
            status = _status(message)
            if status is not None:
                return status
        if kind in (_RESET, _GO_AWAY) or (kind in (_HEADERS, _DATA) and flags & _END_STREAM):
            break
    text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    raise RpcError(f"{text}: it gave no status")


def _status(data: bytes) -> int | None:
    """The status in a length-prefixed HealthCheckResponse; None until it is whole."""
    if len(data) < 5:
        return None
    length = int.from_bytes(data[1:5], "big")
    message = data[5 : 5 + length]
    if len(message) < length:
        return None
    return message[1] if message[:1] == b"\x08" and len(message) > 1 else 0  # field 1, a number below 128
