"""What a handler writes to: a chunked body, or the raw connection after an upgrade."""

from __future__ import annotations

import asyncio
import functools

from twinstack.server.http.heads import LAST_CHUNK
from twinstack.server.http.wire import Wire


class Flow:
    """Back-pressure and end of one connection, as its wire reports them."""

    __slots__ = ("_drained", "_ended", "gone", "paused", "stopping", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.paused = False
        self.gone = False  # the peer has gone
        self.stopping = False  # the server asks streams to end
        self._drained: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def stop(self) -> None:
        """The server is shutting down."""
        self.stopping = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def lose(self) -> None:
        """The peer has gone."""
        self.gone = True
        self.resume()
        self.stop()

    def pending(self) -> int:
        """Bytes that wait, 0 while they are few."""
        return self.wire.get_write_buffer_size() if self.paused else 0

    async def drain(self) -> None:
        """Wait until the wire's queue is short again, or the peer has gone."""
        while self.paused and not self.gone:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def ended(self) -> asyncio.Future[None]:
        """Done once the peer has gone or the server stops. A future, for each watch holds one; may be cancelled."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            if self.gone or self.stopping:
                self._ended.set_result(None)
        return asyncio.shield(self._ended)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_LONG = 16 << 10  # bytes
_same_chunk = functools.lru_cache(maxsize=1)(_chunk)  # an event goes to many watchers in a row


class BodyWriter:
    """`messages.StreamWriter` on a connection; `chunked` is false for HTTP/1.0, where closing ends the body."""

    __slots__ = ("_chunked", "_flow")

    def __init__(self, flow: Flow, *, chunked: bool) -> None:
        self._flow = flow
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        if self._flow.gone or not data:
            return
        if self._chunked:
            data = _same_chunk(data) if len(data) < _LONG else _chunk(data)
        self._flow.wire.write(data)

    def pending(self) -> int:
        return self._flow.pending()

    async def drain(self) -> None:
        await self._flow.drain()

    def closed(self) -> asyncio.Future[None]:
        return self._flow.ended()

    def finish(self) -> None:
        """End the body."""
        if self._chunked and not self._flow.gone:
            self._flow.wire.write(LAST_CHUNK)


class Tunnel:
    """`messages.Duplex` on a connection. Reading stops while `_HIGH` bytes wait for the handler."""

    _HIGH = 1 << 18

    __slots__ = ("_arrived", "_ended", "_flow", "_parts", "_size")

    def __init__(self, flow: Flow, first: bytes) -> None:
        self._flow = flow
        self._parts = [first] if first else []
        self._size = len(first)
        self._ended = False
        self._arrived: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Bytes from the peer; empty at the end."""
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > self._HIGH:
                self._flow.wire.pause_reading()
        else:
            self._ended = True
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def read(self) -> bytes:
        while not self._parts and not self._ended:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        data = b"".join(self._parts)
        self._parts.clear()
        if self._size > self._HIGH and not self._ended:
            self._flow.wire.resume_reading()
        self._size = 0
        return data

    def write(self, data: bytes) -> None:
        if data and not self._flow.gone:
            self._flow.wire.write(data)

    def pending(self) -> int:
        return self._flow.pending()

    async def drain(self) -> None:
        await self._flow.drain()

    def closed(self) -> asyncio.Future[None]:
        return self._flow.ended()
