"""One HTTP/1.1 connection: bytes to requests, answers to bytes, one request at a time and in order."""

from __future__ import annotations

import asyncio
import enum
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import httptools

from twinstack.api.errors import StatusError
from twinstack.server.http.answers import compressed, failure, has_body, wants_gzip
from twinstack.server.http.heads import CONTINUE, response_head
from twinstack.server.http.limits import Limits
from twinstack.server.http.streams import BodyWriter, Flow, Tunnel
from twinstack.server.http.targets import parse_target
from twinstack.server.http.wire import Connections, Wire
from twinstack.server.messages import Answer, Handler, Request, Response, StreamResponse, Upgrade, UserInfo

log = logging.getLogger(__name__)

Identify = Callable[[Mapping[str, Any] | None], UserInfo]

_NEVER = float("inf")
_ONE_WRITE = 1 << 16  # bytes: a head is joined to bodies up to this, larger ones are written after it


_FORGOTTEN = Request(method="", path="", query={}, headers={}, body=b"", user=UserInfo(name=""))


_NAMES: dict[bytes, str] = {}  # header names seen before, so that they are made and kept once
_MOST_NAMES = 512


def _header_name(name: bytes) -> str:
    key = sys.intern(name.decode("latin-1").lower())
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[name] = key
    return key


class Owner(Connections, Protocol):
    """The server, as its connections see it."""

    handler: Handler
    identify: Identify
    limits: Limits


class _Stage(enum.Enum):
    HEAD = 1  # between requests, or inside a request's head
    BODY = 2
    DISCARD = 3  # a request was refused; what follows is read and dropped
    TUNNEL = 4  # after an upgrade


class _Exchange:
    """A request read whole, and what its answer must know of it."""

    __slots__ = ("keep_alive", "old", "request", "upgrade")

    def __init__(self, request: Request, *, keep_alive: bool, old: bool, upgrade: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.old = old  # HTTP/1.0: no chunks
        self.upgrade = upgrade

    def forget(self) -> None:
        """Let go of the request: a watch lives long, its headers need not."""
        self.request = _FORGOTTEN


class _Refused(Exception):
    """Raised in a parser callback: the rest of the connection is not read."""


class HTTPConnection(asyncio.Protocol):
    """Parser callbacks collect a request, a task answers it; later ones wait in a queue.

    `deadline` (event loop time) is when the server's sweep calls `expire`: for the head, the body, the handler,
    an idle connection and a peer that does not take its answer. Streams have none while they flow.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_expired",
        "_flow",
        "_head_size",
        "_headers",
        "_held",
        "_limits",
        "_loop",
        "_owed_continue",
        "_owner",
        "_parser",
        "_queue",
        "_refusal",
        "_stage",
        "_stalled",
        "_streaming",
        "_target",
        "_task",
        "_tunnel",
        "_user",
        "deadline",
    )

    def __init__(self, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._limits = owner.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._stage = _Stage.HEAD
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._owed_continue = False
        self._held: bytearray | None = None  # bytes after an upgrade request, until it is answered
        self._refusal: Response | None = None
        self._queue: list[_Exchange] = []
        self._task: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self._streaming = False
        self._expired = False
        self._stalled = 0
        self.deadline = self._loop.time() + self._limits.head_timeout

    # --- transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connected(cast("Wire", transport))

    def connected(self, wire: Wire) -> None:
        self._flow = Flow(wire)
        self._user = self._owner.identify(wire.get_extra_info("peercert"))
        self._owner.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.ended(self)
        self._flow.lose()
        self._queue.clear()
        if self._tunnel is not None:
            self._tunnel.feed(b"")
        elif self._task is not None and self._streaming:
            self._task.cancel()
        self._parser = None

    def pause_writing(self) -> None:
        self._flow.pause()
        self._stalled = self._flow.wire.get_write_buffer_size()
        self.deadline = self._loop.time() + self._limits.stall_timeout

    def resume_writing(self) -> None:
        self._flow.resume()
        self.deadline = _NEVER if self._streaming else self._loop.time() + self._limits.request_timeout

    def data_received(self, data: bytes) -> None:
        if self._stage is _Stage.DISCARD:
            return
        if self._tunnel is not None:
            self._tunnel.feed(data)
        elif self._held is not None:
            self._held += data
            if len(self._held) > self._limits.head:
                self._flow.wire.pause_reading()
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._stage is _Stage.HEAD:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._held = bytearray(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            refused = isinstance(error.__context__, _Refused)
            self._refuse(None if refused else StatusError(400, "BadRequest", f"malformed HTTP request: {error}"))
        else:
            if self._stage is _Stage.HEAD and self._head_size > self._limits.head:
                self._refuse(_head_too_large())

    # --- parser callbacks

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._body = []
        self._body_size = 0
        if self._task is None:
            self.deadline = self._loop.time() + self._limits.head_timeout

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is _Stage.BODY:
            return  # a trailer
        key = _NAMES.get(name) or _header_name(name)
        text = value.decode("latin-1")
        present = self._headers.get(key)
        self._headers[key] = text if present is None else f"{present}, {text}"

    def on_headers_complete(self) -> None:
        self._stage = _Stage.BODY
        self._head_size = 0
        headers = self._headers
        length = headers.get("content-length", "")
        if length and int(length) > self._limits.body:
            self._fail(_body_too_large(self._limits))
        if headers.get("expect", "").lower() == "100-continue" and (length or "transfer-encoding" in headers):
            if self._task is None:
                self._flow.wire.write(CONTINUE)
            else:
                self._owed_continue = True
        if self._task is None:
            self.deadline = self._loop.time() + self._limits.body_timeout

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > self._limits.body:
            self._fail(_body_too_large(self._limits))
        self._body.append(part)

    def on_message_complete(self) -> None:
        self._stage = _Stage.HEAD
        body = self._body
        path, query = parse_target(self._target)
        method = self._parser.get_method().decode("ascii")
        exchange = _Exchange(
            Request(
                method=method,
                path=path,
                query=query,
                headers=self._headers,
                body=(body[0] if len(body) == 1 else b"".join(body)) if body else b"",
                user=self._user,
            ),
            keep_alive=self._parser.should_keep_alive(),
            old=self._parser.get_http_version() == "1.0",
            upgrade=self._parser.should_upgrade(),
        )
        self._headers, self._body = {}, []
        if self._task is None:
            self._task = self._loop.create_task(self._serve(exchange))
        else:
            self._queue.append(exchange)
            if len(self._queue) == self._limits.pipeline:
                self._flow.wire.pause_reading()

    # --- refusals

    def _fail(self, error: StatusError) -> None:
        self._refusal = failure(error)
        raise _Refused

    def _refuse(self, error: StatusError | None) -> None:
        """Read no further; answer with `error` (or what `_fail` left) once earlier requests are answered."""
        if error is not None:
            self._refusal = failure(error)
        self._stage = _Stage.DISCARD
        if self._task is None:
            self._end_refused()

    def _end_refused(self) -> None:
        """Write the refusal and close, late enough that a peer still sending can read it."""
        if self._refusal is not None and not self._flow.wire.is_closing():
            self._write(self._refusal, None, keep_alive=False)
            self._refusal = None
        self.deadline = self._loop.time() + self._limits.linger

    # --- answers

    async def _serve(self, exchange: _Exchange) -> None:
        """Answer this request and those that queue behind it."""
        try:
            while True:
                self.deadline = self._loop.time() + self._limits.request_timeout
                open_after = await self._answer(exchange)
                if self._flow.paused:
                    await self._flow.drain()
                if not open_after or self._flow.gone or self._flow.stopping:
                    self._close()
                    return
                if not self._queue:
                    return
                if len(self._queue) == self._limits.pipeline:
                    self._flow.wire.resume_reading()
                exchange = self._queue.pop(0)
        except asyncio.CancelledError:
            self.abort()
        except Exception:
            log.exception("connection ended by a failure")
            self.abort()
        finally:
            self._task = None
            self._rest()

    def _rest(self) -> None:
        """All requests are answered."""
        if self._stage is _Stage.DISCARD:
            self._end_refused()
            return
        if self._owed_continue and not self._flow.wire.is_closing():
            self._owed_continue = False
            self._flow.wire.write(CONTINUE)
        timeout = self._limits.body_timeout if self._stage is _Stage.BODY else self._limits.idle_timeout
        self.deadline = self._loop.time() + timeout

    async def _answer(self, exchange: _Exchange) -> bool:
        """Answer one request; whether the connection can take another one."""
        answer = await self._handle(exchange.request)
        if self._flow.gone:
            return False
        if isinstance(answer, Response):
            await self._respond(answer, exchange)
        elif isinstance(answer, StreamResponse):
            await self._stream(answer, exchange)
        elif exchange.upgrade and self._held is not None:
            await self._switch(answer)
            return False
        else:
            error = StatusError(400, "BadRequest", "unable to upgrade connection")
            await self._respond(failure(error), exchange)
        if self._held is not None:
            self._resume_parsing()
        return exchange.keep_alive and not self._flow.stopping

    async def _handle(self, request: Request) -> Answer:
        try:
            return await self._owner.handler(request)
        except StatusError as error:
            return failure(error)
        except asyncio.CancelledError:
            if not self._expired:
                raise
            self._expired = False
            return failure(StatusError(504, "Timeout", "Timeout: request did not complete within the allotted timeout"))
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            return failure(StatusError(500, "InternalError", f"Internal error occurred: {error}"))

    async def _respond(self, answer: Response, exchange: _Exchange) -> None:
        if wants_gzip(answer, exchange.request.headers):
            answer = await asyncio.to_thread(compressed, answer)
            if self._flow.gone:
                return
        self._write(answer, exchange, keep_alive=exchange.keep_alive)

    def _write(self, answer: Response, exchange: _Exchange | None, *, keep_alive: bool) -> None:
        """One write for head and body, so that they share a packet and a TLS record."""
        body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        framing = f"Content-Length: {len(body)}\r\n" if has_body(answer.status) else ""
        if not keep_alive or self._flow.stopping:
            framing += "Connection: close\r\n"
        elif exchange is not None and exchange.old:
            framing += "Connection: keep-alive\r\n"
        request_id = exchange.request.headers.get("audit-id", "") if exchange is not None else ""
        content_type = answer.content_type if has_body(answer.status) else ""
        head = response_head(answer.status, content_type, answer.headers, answer.warnings, request_id, framing)
        if not has_body(answer.status) or (exchange is not None and exchange.request.method == "HEAD"):
            body = b""
        if len(body) <= _ONE_WRITE:
            self._flow.wire.write(head + body)
        else:
            self._flow.wire.write(head)
            self._flow.wire.write(body)

    async def _stream(self, answer: StreamResponse, exchange: _Exchange) -> None:
        exchange.keep_alive = exchange.keep_alive and not exchange.old
        framing = "" if exchange.old else "Transfer-Encoding: chunked\r\n"
        if not exchange.keep_alive:
            framing += "Connection: close\r\n"
        request = exchange.request
        head = response_head(
            answer.status,
            answer.content_type,
            answer.headers,
            answer.warnings,
            request.headers.get("audit-id", ""),
            framing,
        )
        self._flow.wire.write(head)
        if request.method == "HEAD":
            return
        writer = BodyWriter(self._flow, chunked=not exchange.old)
        self.deadline = _NEVER
        self._streaming = True
        label = f"{request.method} {request.path}"
        del request
        exchange.forget()
        try:
            await answer.produce(writer)
        except asyncio.CancelledError:
            if not self._flow.stopping:
                raise
        except Exception:
            log.exception("stream of %s", label)
            self._flow.wire.abort()  # without a last chunk, so that the peer sees a broken stream
            return
        finally:
            self._streaming = False
        writer.finish()

    async def _switch(self, answer: Upgrade) -> None:
        head = response_head(101, "", [*answer.headers, ("Connection", "Upgrade")], (), "", "")
        self._flow.wire.write(head)
        assert self._held is not None
        self._tunnel = Tunnel(self._flow, bytes(self._held))
        self._held = None
        self._stage = _Stage.TUNNEL
        self.deadline = _NEVER
        self._streaming = True
        self._flow.wire.resume_reading()
        await answer.run(self._tunnel)

    def _resume_parsing(self) -> None:
        """The upgrade was not taken: what followed is HTTP again."""
        rest, self._held = self._held, None
        self._flow.wire.resume_reading()
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self._feed(bytes(rest))

    # --- ends

    def expire(self) -> None:
        """The deadline has passed."""
        if self._flow.wire.is_closing():
            self.abort()  # the peer does not take the rest
        elif self._flow.paused:
            waiting = self._flow.wire.get_write_buffer_size()
            if waiting < self._stalled:
                self._stalled = waiting
                self.deadline = self._loop.time() + self._limits.stall_timeout
            else:
                self._flow.wire.abort()
        elif self._task is not None:
            self._expired = True
            self.deadline = self._loop.time() + self._limits.request_timeout
            self._task.cancel()
        elif self._stage is _Stage.DISCARD:
            self._close()
        elif self._stage is _Stage.BODY or self._head_size:
            self._refuse(StatusError(408, "Timeout", "the request was not received in time"))
        else:
            self._close()

    def stop(self) -> None:
        """Finish what is in work, then close."""
        self._flow.stop()
        if self._task is None:
            self._close()

    def cancel(self) -> None:
        """End what did not finish after `stop`."""
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self._flow.wire.abort()

    def _close(self) -> None:
        self._flow.wire.close()


def _head_too_large() -> StatusError:
    return StatusError(431, "RequestHeaderFieldsTooLarge", "Request header fields too large")


def _body_too_large(limits: Limits) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limits.body}")
