"""A small HTTP/1.1 server over TLS for the node's own API: answers whole, streamed or by an upgrade (RFC 9112).

GET alone is served, and POST for an upgrade.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

from twinstack.linux import tcp

HEAD_LIMIT = 32 << 10
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0
AFTERWARDS = 10.0  # seconds for what a peer has said before it went

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One request without a body. `subject` is the client certificate's, if any: its names by kind (`commonName`,
    `organizationName`). Header names are lower case; those that are repeated are joined by commas."""

    headers: Mapping[str, str]
    path: list[str]  # unquoted segments
    query: Mapping[str, list[str]]
    subject: Mapping[str, list[str]]
    gone: asyncio.Future[None]  # done when the client has closed the connection
    method: str = "GET"

    def parameter(self, name: str) -> str:
        """The first value; empty when absent."""
        return self.query.get(name, [""])[0]


class Answer(NamedTuple):
    """A status and a body: whole, or streamed as it comes."""

    status: int = 200
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    content_type: str = "text/plain; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()


class Tunnel:
    """The raw connection after an upgrade. Reading stops while `_HIGH` bytes wait to be read; then the peer is looked
    after, whose end would go unnoticed."""

    _HIGH = 256 << 10
    _LOOK = 10.0  # seconds

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event, first: bytes) -> None:
        self._transport = transport
        self._writable = writable
        self._parts = [first] if first else []
        self._size = len(first)
        self._ended = False
        self._arrived = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Bytes from the peer; empty at the end."""
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > self._HIGH:
                self._transport.pause_reading()
                self._look_later()
        else:
            self._ended = True
        self._arrived.set()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(self._LOOK, self._look)

    def _look(self) -> None:
        if self._size <= self._HIGH or self._ended:
            return  # reading goes on, and tells
        if tcp.is_dead(self._transport.get_extra_info("socket")):
            self._transport.abort()
        else:
            self._look_later()

    async def read(self) -> bytes:
        """The next bytes; empty once the peer has gone."""
        while not self._parts and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = b"".join(self._parts)
        self._parts.clear()
        if self._size > self._HIGH and not self._ended:
            self._transport.resume_reading()
        self._size = 0
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes without waiting; dropped after the peer has gone."""
        if data and not self._ended:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the queue is short again."""
        await self._writable.wait()


class Upgrade(NamedTuple):
    """101 with `headers`; then `run` speaks the new protocol, and the connection is closed when it returns."""

    headers: list[tuple[str, str]]
    run: Callable[[Tunnel], Awaitable[None]]


Handler = Callable[[Request], Awaitable[Answer | Upgrade]]


def tls_context(certificate: str, key: str, client_authority: str) -> ssl.SSLContext:
    """For a server whose clients show a certificate of `client_authority`, or none. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2, as the API server's
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def serve(handler: Handler, port: int, context: ssl.SSLContext | None) -> asyncio.Server:
    """Listen on every address of the node, both families. Raises OSError."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(handler), None, port, ssl=context)


class Connection(asyncio.Protocol):
    """One client; its requests are answered one after the other."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tcp.keep_alive(transport.get_extra_info("socket"))
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._writable.set()
        if self._patience is not None:
            self._patience.cancel()
        if self._tunnel is not None:
            self._tunnel.feed(b"")  # its end is the new protocol's to see
        elif self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT:
            self._transport.close()
        elif self._task is None:
            self._begin()

    def _expect(self, seconds: float) -> None:
        """Close unless a whole request has come by then."""
        self._patience = self._loop.call_later(seconds, self._transport.close)

    def _begin(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        self._buffer = rest
        if self._patience is not None:
            self._patience.cancel()
        self._task = self._loop.create_task(self._respond(head))

    async def _respond(self, head: bytes) -> None:
        method, target, headers, keep = _parse(head)
        answer: Answer | Upgrade
        if method == "GET" or (method == "POST" and "upgrade" in headers):
            parts = urlsplit(target)
            path = [unquote(segment) for segment in parts.path.split("/")[1:]]
            query = parse_qs(parts.query, keep_blank_values=True)
            subject = _subject(self._transport)
            answer = await self._answer(Request(headers, path, query, subject, self._gone, method))
        else:
            answer = Answer(405, b"only GET is served here\n")
        if isinstance(answer, Upgrade):
            await self._switch(answer)
            return
        await self._send(answer, keep)
        self._task = None
        if not keep:
            self._transport.close()
        elif not self._gone.done():
            self._expect(IDLE_SECONDS)
            self._begin()

    async def _answer(self, request: Request) -> Answer | Upgrade:
        try:
            return await self._handler(request)
        except Exception:
            log.exception("/%s", "/".join(request.path))
            return Answer(500, b"internal error\n")

    async def _send(self, answer: Answer, keep: bool) -> None:
        head = f"{_status_line(answer.status)}Content-Type: {answer.content_type}\r\n{_lines(answer.headers)}"
        if not keep:
            head += "Connection: close\r\n"
        if answer.stream is None:
            self._transport.write(f"{head}Content-Length: {len(answer.body)}\r\n\r\n".encode() + answer.body)
            return
        self._transport.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        async with aclosing(answer.stream) as parts:
            async for part in parts:
                self._transport.write(b"%x\r\n%b\r\n" % (len(part), part))
                await self._writable.wait()
        self._transport.write(b"0\r\n\r\n")

    async def _switch(self, answer: Upgrade) -> None:
        if self._gone.done():
            return
        first, self._buffer = self._buffer, b""
        self._tunnel = Tunnel(self._transport, self._writable, first)
        self._transport.write(f"{_status_line(101)}Connection: Upgrade\r\n{_lines(answer.headers)}\r\n".encode())
        running = asyncio.ensure_future(answer.run(self._tunnel))
        ends: set[asyncio.Future[None]] = {running, self._gone}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({running}, timeout=AFTERWARDS)
        finally:
            running.cancel()
            try:
                await running
            except asyncio.CancelledError:
                log.debug("what followed an upgrade was broken off")
            except Exception:
                log.exception("after an upgrade")
            self._transport.close()


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


def _lines(headers: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _parse(head: bytes) -> tuple[str, str, dict[str, str], bool]:
    """Method, target, headers, and whether the connection is kept."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key, text = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    wants_close = headers.get("connection", "").lower() == "close"
    keep = version == "HTTP/1.1" and not wants_close and headers.get("content-length", "0") == "0"
    return method, target, headers, keep


def _subject(transport: asyncio.Transport) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    certificate = transport.get_extra_info("peercert") or {}
    for group in certificate.get("subject", ()):
        for kind, value in group:
            names.setdefault(kind, []).append(value)
    return names
