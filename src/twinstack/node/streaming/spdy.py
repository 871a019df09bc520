"""SPDY/3.1 frames over bytes, as far as Kubernetes uses them (draft-mbelshe-httpbis-spdy-00). Pure.

Clients open streams; data flows both ways. Like upstream's library neither side has flow control of its own: a
WINDOW_UPDATE is ignored, and the connection's back-pressure serves for all streams.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

_VERSION = 3
_FIN, _UNIDIRECTIONAL = 1, 2  # flags
_STREAM = 0x7FFFFFFF  # the bits of a stream's number
_LONGEST_CONTROL = 64 << 10  # bytes of a control frame, also of its headers once they are inflated

# What header blocks are compressed with (section 2.6.10.1): likely names and values, then fragments of values.
_LIKELY = (
    "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,accept-ranges,age,allow,"
    "authorization,cache-control,connection,content-base,content-encoding,content-language,content-length,"
    "content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,"
    "if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,"
    "proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,"
    "user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,"
    "keep-alive,origin"
)
_FRAGMENTS = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word.encode() for word in _LIKELY.split(",")) + _FRAGMENTS.encode()


class _Kind(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(IntEnum):
    """Why a stream is broken off (section 2.6.3)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5


class ProtocolError(Exception):
    """The peer breaks the protocol; the connection is of no more use."""


class Open(NamedTuple):
    """SYN_STREAM: a new stream. `finished`: its opener will send nothing on it."""

    stream: int
    headers: dict[str, str]
    finished: bool


class Reply(NamedTuple):
    """SYN_REPLY: the stream is taken; data may flow."""

    stream: int
    headers: dict[str, str]
    finished: bool


class Data(NamedTuple):
    """A piece of a stream. `finished`: the sender's last one."""

    stream: int
    data: bytes
    finished: bool


class Reset(NamedTuple):
    """RST_STREAM: the stream is broken off in both directions."""

    stream: int
    status: int


class Ping(NamedTuple):
    """To be sent back by the one whose numbers it does not bear: clients count odd, servers even."""

    number: int


class GoAway(NamedTuple):
    """The peer opens no more streams and is about to leave."""

    last: int


Frame = Open | Reply | Data | Reset | Ping | GoAway


class Decoder:
    """One direction of a connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._stream = 0  # whose data frame is being read
        self._left = 0  # bytes of it that have not come yet
        self._last = False  # it is the stream's last

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; data in pieces as it comes. Raises ProtocolError."""
        self._buffer += data
        while True:
            if self._left:
                if not self._buffer:
                    return
                yield self._piece()
                continue
            if len(self._buffer) < 8:
                return
            first, rest = struct.unpack_from("!II", self._buffer)
            flags, length = rest >> 24, rest & 0xFFFFFF
            if first >> 31:
                frame = self._control(first, flags, length)
                if frame is _INCOMPLETE:
                    return
                if frame is not None:
                    yield frame
            else:
                del self._buffer[:8]
                self._stream, self._left, self._last = first, length, bool(flags & _FIN)
                if not length:
                    yield Data(first, b"", self._last)

    def _piece(self) -> Data:
        data = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(data)
        return Data(self._stream, data, self._last and not self._left)

    def _control(self, first: int, flags: int, length: int) -> Frame | None:
        """`_INCOMPLETE` while it is not all there, None for frames that mean nothing here."""
        if first >> 16 & 0x7FFF != _VERSION:
            raise ProtocolError(f"version {first >> 16 & 0x7FFF} of SPDY")
        if length > _LONGEST_CONTROL:
            raise ProtocolError(f"a control frame of {length} bytes")
        if len(self._buffer) < 8 + length:
            return _INCOMPLETE
        payload = bytes(self._buffer[8 : 8 + length])
        del self._buffer[: 8 + length]
        try:
            return self._read(first & 0xFFFF, flags, payload)
        except struct.error as error:
            raise ProtocolError("a control frame is too short") from error

    def _read(self, kind: int, flags: int, payload: bytes) -> Frame | None:
        finished = bool(flags & _FIN)
        if kind == _Kind.SYN_STREAM:
            (stream,) = struct.unpack_from("!I", payload)
            return Open(stream & _STREAM, self._headers(payload[10:]), finished)
        if kind == _Kind.SYN_REPLY:
            (stream,) = struct.unpack_from("!I", payload)
            return Reply(stream & _STREAM, self._headers(payload[4:]), finished)
        if kind == _Kind.HEADERS:
            (stream,) = struct.unpack_from("!I", payload)
            self._headers(payload[4:])  # so that the compression stays in step
            return Data(stream & _STREAM, b"", True) if finished else None
        if kind == _Kind.RST_STREAM:
            stream, status = struct.unpack_from("!II", payload)
            return Reset(stream & _STREAM, status)
        if kind == _Kind.PING:
            return Ping(*struct.unpack_from("!I", payload))
        if kind == _Kind.GOAWAY:
            return GoAway(struct.unpack_from("!I", payload)[0] & _STREAM)
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        """Names are lower case on the wire."""
        try:
            plain = self._inflate.decompress(block, _LONGEST_CONTROL)
        except zlib.error as error:
            raise ProtocolError(f"headers: {error}") from error
        if self._inflate.unconsumed_tail:
            raise ProtocolError("headers are too long")
        (count,) = struct.unpack_from("!I", plain)
        position = 4
        texts: list[str] = []
        for _ in range(2 * min(count, _LONGEST_CONTROL)):
            (length,) = struct.unpack_from("!I", plain, position)
            position += 4
            if position + length > len(plain):
                raise ProtocolError("headers end early")
            texts.append(plain[position : position + length].decode("latin-1"))
            position += length
        return dict(zip(texts[::2], texts[1::2], strict=True))


_INCOMPLETE = Ping(-1)


class Encoder:
    """The other direction. Frames must be sent in the order in which they are made: header blocks build on another."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def open(self, stream: int, headers: Mapping[str, str], *, finished: bool = False) -> bytes:
        head = struct.pack("!IIH", stream, 0, 0)
        return _control(_Kind.SYN_STREAM, head + self._block(headers), _FIN if finished else 0)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        return _control(_Kind.SYN_REPLY, struct.pack("!I", stream) + self._block(headers or {}))

    def data(self, stream: int, data: bytes, *, finished: bool = False) -> bytes:
        return struct.pack("!II", stream, (_FIN if finished else 0) << 24 | len(data)) + data

    def reset(self, stream: int, status: ResetStatus) -> bytes:
        return _control(_Kind.RST_STREAM, struct.pack("!II", stream, status))

    def ping(self, number: int) -> bytes:
        return _control(_Kind.PING, struct.pack("!I", number))

    def go_away(self, last: int) -> bytes:
        return _control(_Kind.GOAWAY, struct.pack("!II", last, 0))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack("!I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                plain += struct.pack("!I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: _Kind, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("!HHI", 0x8000 | _VERSION, kind, flags << 24 | len(payload)) + payload
