"""One HTTP/1.1 connection of a client: one exchange at a time, the answer read whole or as it comes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

import httptools

HIGH_WATER = 1 << 20  # bytes of an unread stream that stop the reading

# A peer that vanished without a word (its host, its namespace) is noticed within a minute.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


class Connection(asyncio.Protocol):
    """A connected transport with the parser of its answers.

    An exchange is `send`, `head`, then `body` or `chunk` until it gives nothing. After `reusable` turns true
    the next may begin. All methods raise ConnectionError when the peer goes away in between.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.fresh = True  # nothing was exchanged yet: a failure is not a stale keep-alive
        self.answered = False  # the first byte of the current answer has come
        self.on_lost: Callable[[Connection], None] | None = None  # set while idle
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._head_done = False
        self._complete = True
        self._keep_alive = True
        self._paused = False
        self._lost: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, tls: ssl.SSLContext | None, server_name: str, timeout: float
    ) -> Connection:
        """Connect within `timeout` seconds. Raises OSError (TimeoutError, ssl.SSLError, ConnectionError …)."""
        loop = asyncio.get_running_loop()
        name = server_name or host if tls is not None else None
        async with asyncio.timeout(timeout):
            transport, connection = await loop.create_connection(cls, host, port, ssl=tls, server_hostname=name)
        handle = transport.get_extra_info("socket")
        for level, option, value in _KEEPALIVE:
            handle.setsockopt(level, option, value)
        return connection

    @property
    def alive(self) -> bool:
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the last answer was read to its end and the peer keeps the connection."""
        return self.alive and self._complete and not self._chunks and self._keep_alive

    def send(self, data: bytes) -> None:
        """Begin an exchange with the bytes of a request."""
        if self._transport is None or not self.alive:
            raise ConnectionResetError("connection is closed")
        self.status, self.headers = 0, {}
        self.answered = self._head_done = self._complete = False
        self._chunks, self._buffered = [], 0
        self._transport.write(data)

    async def head(self) -> int:
        """Wait for the status line and the headers; returns the status."""
        while not self._head_done:
            await self._more()
        return self.status

    async def body(self) -> bytes:
        """The whole body, however long."""
        parts = [self._take()]
        while not self._complete:
            await self._more()
            parts.append(self._take())  # else reading would stay paused
        return b"".join(parts)

    async def chunk(self) -> bytes:
        """What has come of the body since the last call; waits for something, empty at the end."""
        while not self._chunks and not self._complete:
            await self._more()
        return self._take()

    def close(self) -> None:
        """Give the connection up, whatever its state."""
        self.on_lost = None
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._buffered = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def _more(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.answered = True
        if self._parser is None or self._complete:  # bytes that nobody asked for
            self._fail(ConnectionError("the server sent an answer without a request"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"the server does not speak HTTP/1.1: {error}"))
        self._wake()

    def eof_received(self) -> bool:
        return False  # close our side too

    def connection_lost(self, exc: Exception | None) -> None:
        delimited = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self._head_done and not delimited and exc is None:
            self._complete = True  # a body that ends with the connection
        self._keep_alive = False
        self._lost = self._lost or ConnectionResetError(f"connection lost: {exc}" if exc else "connection closed")
        self._transport = self._parser = None  # breaks the circle with the parser
        self._wake()
        if self.on_lost is not None:
            self.on_lost(self)

    def _fail(self, error: Exception) -> None:
        self._lost = self._lost or error
        if self._transport is not None:
            self._transport.abort()

    # callbacks of the parser

    def on_message_begin(self) -> None:
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= 200  # 100 Continue and its like announce another head

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._head_done:
            self._complete = True
            self.fresh = False
            self._keep_alive = self._parser.should_keep_alive()
