"""One HTTP/2 connection of a gRPC client (RFC 9113, gRPC over HTTP/2): frames, flow control, streams.

It speaks to etcd alone and keeps to what that needs: no pushes, no priorities, no dynamic header table (so equal
header blocks mean equal headers, and are decoded once). Frames are handled in the turn in which they come;
nothing is kept but the pieces of unfinished messages.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import unquote

from twinstack.store.etcd import hpack

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5

_FRAME_HEAD = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")
_MESSAGE_HEAD = struct.Struct(">BI")
_NUMBER = struct.Struct(">I")
_DEFAULT_WINDOW = 65_535
_LARGEST_WINDOW = (1 << 31) - 1
_LARGEST_FRAME = 16_384  # that is received: the default is not raised
_GRANT = 16 << 20  # bytes received before the window is opened again
_CANCEL = 8
_PING_SECONDS = 10.0  # without a byte from the peer, after which it is asked; etcd allows one in five seconds
_HEADER_BLOCKS = 64  # decoded ones that are remembered


class Code(enum.IntEnum):
    """gRPC status codes that are told apart here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    OUT_OF_RANGE = 11
    INTERNAL = 13
    UNAVAILABLE = 14


class Ended(NamedTuple):
    """How a stream ended. `unsent`: the peer has surely not begun with it."""

    code: int
    message: str
    unsent: bool = False


class Enough(Exception):
    """What `on_message` raises when it wants no more; the text becomes the end's message."""


class Stream:
    """One call: messages go to `on_message`, its end to `on_end`, once."""

    __slots__ = ("_on_end", "_partial", "identity", "on_message", "ungranted", "window")

    def __init__(
        self, identity: int, window: int, on_message: Callable[[bytes], None], on_end: Callable[[Ended], None]
    ) -> None:
        self.identity = identity
        self.window = window  # octets that the peer takes
        self.ungranted = 0  # octets received since its own window was opened
        self.on_message = on_message
        self._on_end: Callable[[Ended], None] | None = on_end
        self._partial = bytearray()

    def feed(self, data: bytes) -> None:
        """Take octets of length-prefixed messages. Raises ValueError for what gRPC does not allow."""
        if self._partial:
            self._partial += data
            if not self._whole():
                return
            data = bytes(self._partial)
        at, end = 0, len(data)
        while end - at >= _MESSAGE_HEAD.size:
            compressed, length = _MESSAGE_HEAD.unpack_from(data, at)
            if compressed:
                raise ValueError("a compressed message")
            start = at + _MESSAGE_HEAD.size
            if end - start < length:
                break
            at = start + length
            self.on_message(data[start:at])
        self._partial = bytearray(data[at:]) if at < end else bytearray()

    def _whole(self) -> bool:
        """Whether the first message is complete: a large one comes in many frames."""
        if len(self._partial) < _MESSAGE_HEAD.size:
            return False
        _, length = _MESSAGE_HEAD.unpack_from(self._partial)
        return len(self._partial) - _MESSAGE_HEAD.size >= int(length)

    def end(self, how: Ended) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(how)


class _Waiting(NamedTuple):
    """Octets for which the peer has no window."""

    stream: Stream
    data: bytes
    last: bool


class Connection(asyncio.Protocol):
    """Open streams with `open`; when the connection ends, each of them ends with UNAVAILABLE."""

    def __init__(self, scheme: str, authority: str) -> None:
        self._fixed = ((":method", "POST"), (":scheme", scheme), (":authority", authority))
        self._blocks: dict[str, bytes] = {}  # encoded request headers, by path
        self._headers: dict[bytes, dict[str, str]] = {}  # decoded header blocks
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._buffer = bytearray()
        self._continued: tuple[int, int, bytearray] | None = None  # stream, flags, the block so far
        self._window = _DEFAULT_WINDOW
        self._stream_window = _DEFAULT_WINDOW
        self._frame_size = _LARGEST_FRAME
        self._ungranted = 0
        self._waiting: list[_Waiting] = []
        self._transport: asyncio.Transport | None = None
        self._heard = False
        self._asked = False
        self._keepalive: asyncio.TimerHandle | None = None
        self.reason = ""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- for the caller

    def open(
        self,
        path: str,
        message: bytes,
        on_message: Callable[[bytes], None],
        on_end: Callable[[Ended], None],
        *,
        last: bool,
    ) -> Stream:
        """Begin a call with its first message. `last`: no other message follows."""
        stream = Stream(self._next, self._stream_window, on_message, on_end)
        transport = self._transport
        if transport is None or self.closed.done() or self._next > _LARGEST_WINDOW:
            stream.end(Ended(Code.UNAVAILABLE, self.reason or "the connection is closed", unsent=True))
            return stream
        self._next += 2
        self._streams[stream.identity] = stream
        block = self._blocks.get(path)
        if block is None:
            block = self._blocks[path] = hpack.encode((*self._fixed, (":path", path), *_METADATA))
        head = _frame(_HEADERS, _END_HEADERS, stream.identity, block)
        data = _MESSAGE_HEAD.pack(0, len(message)) + message
        size = len(data)
        if size <= self._frame_size and size <= self._window and size <= stream.window and not self._waiting:
            self._window -= size
            stream.window -= size
            transport.write(head + _frame(_DATA, _END_STREAM if last else 0, stream.identity, data))
        else:
            transport.write(head)
            self._waiting.append(_Waiting(stream, data, last))
            self._flush()
        return stream

    def cancel(self, stream: Stream, reason: str = "context canceled") -> None:
        """End it from this side."""
        stream.end(Ended(Code.CANCELLED, reason))
        if self._streams.pop(stream.identity, None) is not None:
            self._waiting = [each for each in self._waiting if each.stream is not stream]
            self._write(_frame(_RST_STREAM, 0, stream.identity, _NUMBER.pack(_CANCEL)))

    def close(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """As `close`, without waiting for what is yet to be written."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop has its own classes
        self._transport = transport
        settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, _LARGEST_WINDOW))
        payload = b"".join(_SETTING.pack(*setting) for setting in settings)
        grant = _NUMBER.pack(_LARGEST_WINDOW - _DEFAULT_WINDOW)
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, payload) + _frame(_WINDOW_UPDATE, 0, 0, grant))
        self._keepalive = asyncio.get_running_loop().call_later(_PING_SECONDS, self._keep_alive)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer)
        try:
            used = self._take_frames(data)
        except (ValueError, struct.error) as error:
            self._buffer.clear()
            self.abort(f"transport: {error}")
            return
        self._buffer = bytearray(data[used:]) if used < len(data) else bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reason = self.reason or (f"transport: {exc}" if exc else "transport is closing")
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._waiting.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.end(Ended(Code.UNAVAILABLE, self.reason))

    # --- frames

    def _take_frames(self, data: bytes) -> int:
        at, end = 0, len(data)
        while end - at >= _FRAME_HEAD.size:
            high, low, kind, flags, identity = _FRAME_HEAD.unpack_from(data, at)
            start = at + _FRAME_HEAD.size
            length = high << 8 | low
            if length > _LARGEST_FRAME:
                raise ValueError(f"a frame of {length} bytes")
            if end - start < length:
                break
            at = start + length
            self._take(kind, flags, identity & _LARGEST_WINDOW, data[start:at])
        return at

    def _take(self, kind: int, flags: int, identity: int, payload: bytes) -> None:
        if kind == _DATA:
            self._take_data(flags, identity, payload)
        elif kind == _HEADERS:
            block = bytearray(_without_padding(flags, payload)[5 if flags & _PRIORITY else 0 :])
            self._continued = (identity, flags, block)
            self._take_block(flags)
        elif kind == _CONTINUATION:
            if self._continued is None or self._continued[0] != identity:
                raise ValueError("a continuation of nothing")
            self._continued[2].extend(payload)
            self._take_block(flags)
        elif kind == _RST_STREAM:
            (error,) = _NUMBER.unpack(payload)
            self._finish(identity, Ended(Code.UNAVAILABLE, f"stream terminated by RST_STREAM with error code {error}"))
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            self._take_goaway(payload)
        elif kind == _WINDOW_UPDATE:
            self._grow(identity, _NUMBER.unpack(payload)[0] & _LARGEST_WINDOW)

    def _take_data(self, flags: int, identity: int, payload: bytes) -> None:
        self._ungranted += len(payload)
        if self._ungranted > _GRANT:
            self._write(_frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._ungranted)))
            self._ungranted = 0
        stream = self._streams.get(identity)
        if stream is None:
            return
        stream.ungranted += len(payload)
        if stream.ungranted > _GRANT:
            self._write(_frame(_WINDOW_UPDATE, 0, identity, _NUMBER.pack(stream.ungranted)))
            stream.ungranted = 0
        try:
            stream.feed(_without_padding(flags, payload))
        except Enough as reason:
            self.cancel(stream, str(reason))
            return
        if flags & _END_STREAM:
            self._finish(identity, Ended(Code.INTERNAL, "server closed the stream without sending trailers"))

    def _take_block(self, flags: int) -> None:
        """A header block, once it is whole: the headers of an answer, or its trailers."""
        assert self._continued is not None
        identity, first_flags, gathered = self._continued
        if len(gathered) > _LARGEST_FRAME:
            raise ValueError("headers are too long")
        if not flags & _END_HEADERS:
            return
        self._continued = None
        block = bytes(gathered)
        headers = self._headers.get(block)
        if headers is None:
            headers = hpack.decode(block)
            if len(self._headers) < _HEADER_BLOCKS:
                self._headers[block] = headers
        if first_flags & _END_STREAM:
            text = headers.get("grpc-status", "")
            code = int(text) if text.isdecimal() else Code.UNKNOWN
            self._finish(identity, Ended(code, unquote(headers.get("grpc-message", ""))))
        elif headers.get(":status") != "200":
            self._finish(identity, Ended(Code.UNAVAILABLE, f"unexpected HTTP status {headers.get(':status')}"))

    def _take_settings(self, payload: bytes) -> None:
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif setting == _MAX_FRAME_SIZE:
                self._frame_size = value
        self._write(_frame(_SETTINGS, _ACK, 0, b""))
        self._flush()

    def _take_goaway(self, payload: bytes) -> None:
        """The peer goes: what it has not begun with can be repeated elsewhere."""
        last = _NUMBER.unpack_from(payload)[0] & _LARGEST_WINDOW
        text = payload[8:].decode("utf-8", "replace")
        for identity in [each for each in self._streams if each > last]:
            self._finish(identity, Ended(Code.UNAVAILABLE, f"the connection is draining {text}".strip(), unsent=True))
        self.close(f"the server closes the connection {text}".strip())

    def _finish(self, identity: int, how: Ended) -> None:
        stream = self._streams.pop(identity, None)
        if stream is not None:
            self._waiting = [each for each in self._waiting if each.stream is not stream]
            stream.end(how)

    # --- sending

    def _grow(self, identity: int, size: int) -> None:
        if not identity:
            self._window += size
        else:
            stream = self._streams.get(identity)
            if stream is not None:
                stream.window += size
        self._flush()

    def _flush(self) -> None:
        """Send what the peer has room for. A stream that must wait does not hold up the others."""
        left: list[_Waiting] = []
        for stream, data, last in self._waiting:
            at = 0
            while at < len(data):
                size = min(len(data) - at, self._window, stream.window, self._frame_size)
                if size <= 0:
                    break
                at += size
                self._window -= size
                stream.window -= size
                flags = _END_STREAM if last and at == len(data) else 0
                self._write(_frame(_DATA, flags, stream.identity, data[at - size : at]))
            if at < len(data):
                left.append(_Waiting(stream, data[at:], last))
        self._waiting = left

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _keep_alive(self) -> None:
        """A peer that is silent is asked; one that does not even answer that is gone."""
        if self._heard:
            self._heard = self._asked = False
        elif self._asked:
            self.abort("keepalive ping failed to receive ACK within timeout")
            return
        else:
            self._asked = True
            self._write(_frame(_PING, 0, 0, bytes(8)))
        self._keepalive = asyncio.get_running_loop().call_later(_PING_SECONDS, self._keep_alive)


# `hasleader`: a member that has lost its leader refuses, instead of letting the caller wait.
_METADATA = (("content-type", "application/grpc"), ("te", "trailers"), ("hasleader", "true"))


def _frame(kind: int, flags: int, identity: int, payload: bytes) -> bytes:
    return _FRAME_HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, identity) + payload


def _without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ValueError("more padding than payload")
    return payload[1 : len(payload) - payload[0]]
