"""A small HTTP/1.1 server over TLS for the node's own API: GET only, answers whole or streamed (RFC 9112)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_LIMIT = 32 << 10
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One GET. `subject` is the client certificate's: its names by kind (`commonName`, `organizationName`)."""

    path: list[str]  # unquoted segments
    query: Mapping[str, list[str]]
    subject: Mapping[str, list[str]]
    gone: asyncio.Future[None]  # done when the client has closed the connection

    def parameter(self, name: str) -> str:
        """The first value; empty when absent."""
        return self.query.get(name, [""])[0]


class Answer(NamedTuple):
    """A status and a body: whole, or streamed as it comes."""

    status: int = 200
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[Request], Awaitable[Answer]]


def tls_context(certificate: str, key: str, client_authority: str) -> ssl.SSLContext:
    """For a server whose clients must show a certificate of `client_authority`. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_authority)
    context.verify_mode = ssl.CERT_REQUIRED
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
        self._writable = asyncio.Event()
        self._writable.set()
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._writable.set()
        if self._patience is not None:
            self._patience.cancel()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
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
        method, target, keep = _parse(head)
        if method == "GET":
            parts = urlsplit(target)
            path = [unquote(segment) for segment in parts.path.split("/")[1:]]
            answer = await self._answer(Request(path, parse_qs(parts.query), _subject(self._transport), self._gone))
        else:
            answer = Answer(405, b"only GET is served here\n")
        await self._send(answer, keep)
        self._task = None
        if not keep:
            self._transport.close()
        elif not self._gone.done():
            self._expect(IDLE_SECONDS)
            self._begin()

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._handler(request)
        except Exception:
            log.exception("GET /%s", "/".join(request.path))
            return Answer(500, b"internal error\n")

    async def _send(self, answer: Answer, keep: bool) -> None:
        head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\nContent-Type: {answer.content_type}\r\n"
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


def _parse(head: bytes) -> tuple[str, str, bool]:
    """Method, target, and whether the connection is kept."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    fields = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}
    keep = version == "HTTP/1.1" and fields.get("connection") != "close" and fields.get("content-length", "0") == "0"
    return method, target, keep


def _subject(transport: asyncio.Transport) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    certificate = transport.get_extra_info("peercert") or {}
    for group in certificate.get("subject", ()):
        for kind, value in group:
            names.setdefault(kind, []).append(value)
    return names
