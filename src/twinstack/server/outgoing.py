"""One HTTP/1.1 request to another server and its answer, streamed; after `101` the raw connection (RFC 9112)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import httptools

from twinstack.ip import Address
from twinstack.server.egress import Egress, Unreachable
from twinstack.server.http.limits import Limits
from twinstack.server.http.wire import Connection, TLSWire, Wire
from twinstack.server.listeners import endpoint
from twinstack.server.messages import BrokenOff, StreamWriter

PATIENCE = 30.0  # seconds until the head of an answer
_HIGH = 1 << 18  # bytes waiting for the reader before the server is told to wait
_AFTERWARDS = 10.0  # seconds that a server has for the rest of what it is sent
_LIMITS = Limits()
_BODYLESS = (204, 304)


class OutgoingRequest(NamedTuple):
    """What to ask. `target` is percent-encoded path and query; `Host` and framing are added."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def encoded(self, host: str) -> bytes:
        # No `Connection: close`: a server that closes cannot tell a reader that is slow from one that is gone.
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + self.body


class Exchange(asyncio.Protocol):
    """The answer as it comes: `head` first, then `read` until it is empty; `close` at the end.

    After `101` it is a `messages.Duplex`.
    """

    def __init__(self, request: bytes, *, bodyless: bool = False) -> None:
        self._request = request
        self._bodyless = bodyless  # an answer to HEAD
        self._parser: Any = httptools.HttpResponseParser(self)
        self._wire: Wire | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._measured = False  # its length is known, or told at its end
        self._raw = False
        self._complete = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # --- the wire below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connected(cast("Wire", transport))

    def connected(self, wire: Wire) -> None:
        self._wire = wire
        wire.write(self._request)

    def began(self, connection: Connection) -> None:
        """A TLS handshake begins."""

    def ended(self, connection: Connection) -> None:
        """The handshake is through, or has failed."""
        if isinstance(connection, TLSWire) and connection.is_closing():
            self.connection_lost(connection.error)

    def data_received(self, data: bytes) -> None:
        if self._raw:
            self._keep(data)
            return
        if self._complete:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._keep(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._failure = Unreachable(f"malformed HTTP response: {error}")
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._complete and self._failure is None:
            self._failure = exc or (ConnectionResetError("unexpected EOF") if self._measured else None)
        self._writable.set()
        self.end()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:
            self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers.clear()  # an interim answer
            return
        self._status = status
        names = {name.lower() for name, _ in self._headers}
        self._measured = bool(names & {"content-length", "transfer-encoding"})
        self._raw = status == 101
        if self._bodyless or status in _BODYLESS:
            self.end()
        self._changed.set()

    def on_body(self, part: bytes) -> None:
        if not self._complete:
            self._keep(part)

    def on_message_complete(self) -> None:
        if self._status and not self._raw:
            self.end()

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > _HIGH and self._wire is not None:
                self._wire.pause_reading()
            self._changed.set()

    # --- for the reader

    async def head(self) -> int:
        """The answer's status. Raises Unreachable."""
        while not self._status:
            if self._complete:
                raise Unreachable(str(self._failure) if self._failure else "EOF")
            await self._next()
        return self._status

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Those of the head, as they came."""
        return self._headers

    @property
    def broken(self) -> bool:
        """Whether the body ended before its end."""
        return self._failure is not None

    async def read(self) -> bytes:
        """The next bytes; empty at the end, and where it breaks off."""
        while not self._parts and not self._complete:
            await self._next()
        data = b"".join(self._parts)
        self._parts.clear()
        if self._size > _HIGH and self._wire is not None and not self._wire.is_closing():
            self._wire.resume_reading()
        self._size = 0
        return data

    async def _next(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def write(self, data: bytes) -> None:
        """After `101`: queue bytes without waiting."""
        if data and self._wire is not None and not self._wire.is_closing():
            self._wire.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def end(self) -> None:
        """Nothing more will come, or be wanted."""
        self._complete = True
        self._changed.set()

    def finish(self) -> None:
        """Close once everything is written, or the server takes no more of it."""
        if self._wire is not None:
            self._wire.close()
            asyncio.get_running_loop().call_later(_AFTERWARDS, self._wire.abort)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort()


async def copy_body(answer: Exchange, writer: StreamWriter, *, tolerant: bool = False) -> None:
    """Pass a body on as fast as the client takes it, until it ends or the server stops, and close the answer.

    Raises BrokenOff where it breaks off, unless told to be `tolerant`.
    """
    stop = asyncio.ensure_future(writer.closed())
    stop.add_done_callback(lambda _: answer.end())
    try:
        while data := await answer.read():
            writer.write(data)
            await writer.drain()
    finally:
        stop.cancel()
        answer.close()
    if answer.broken and not tolerant:
        raise BrokenOff("what the backend sent ended early")


async def send(
    egress: Egress,
    address: Address,
    port: int,
    request: OutgoingRequest,
    context: ssl.SSLContext | None = None,
    *,
    patience: float | None = PATIENCE,
) -> Exchange:
    """Ask a server, by TLS if there is a context; the answer's head has come, and the rest is the caller's to close.

    Raises Unreachable.
    """
    exchange = Exchange(request.encoded(endpoint(address, port)), bodyless=request.method == "HEAD")
    loop = asyncio.get_running_loop()
    sock = await egress.connect(address, port)
    try:
        async with asyncio.timeout(patience):
            if context is None:
                await loop.create_connection(lambda: exchange, sock=sock)
            else:
                peer = str(address)
                await loop.create_connection(
                    lambda: TLSWire(exchange, context, _LIMITS, lambda: exchange, peer), sock=sock
                )
            await exchange.head()
            return exchange
    except BaseException as error:
        exchange.close()
        sock.close()
        if isinstance(error, OSError):  # a time-out is one, and so is what TLS raises
            reason = "i/o timeout" if isinstance(error, TimeoutError) else str(error)
            raise Unreachable(reason) from error
        raise
