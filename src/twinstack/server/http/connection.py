"""One HTTP/1.1 connection: requests are answered one at a time and in order, streams and upgrades last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from twinstack.api.errors import StatusError
from twinstack.linux import tcp
from twinstack.server.http.answers import compressed, failure, has_body, wants_gzip
from twinstack.server.http.heads import CONTINUE, response_head
from twinstack.server.http.limits import Limits
from twinstack.server.http.reading import Exchange, Refused, RequestReader
from twinstack.server.http.streams import BodyWriter, Flow, Tunnel
from twinstack.server.http.wire import Connections, Wire
from twinstack.server.messages import Answer, BrokenOff, Handler, Request, Response, StreamResponse, Upgrade, UserInfo

log = logging.getLogger(__name__)

Identify = Callable[[Mapping[str, Any] | None, bytes | None], UserInfo]

_NEVER = float("inf")
_HELD = 1 << 20  # bytes of an answer that wait to be sent before more of it is encrypted
_ONE_WRITE = 1 << 16  # bytes: a head is joined to bodies up to this, larger ones are written after it


class Owner(Connections, Protocol):
    """The server, as its connections see it."""

    handler: Handler
    identify: Identify
    limits: Limits


class HTTPConnection(asyncio.Protocol):
    """A task answers a request; those that come meanwhile wait in a queue.

    `deadline` (event loop time) is when the server's sweep calls `expire`: for the head, the body, the handler,
    an idle connection and a peer that does not take its answer. Streams have none while they flow.
    """

    __slots__ = (
        "_discards",
        "_expired",
        "_flow",
        "_limits",
        "_loop",
        "_owed_continue",
        "_owner",
        "_patient",
        "_queue",
        "_reader",
        "_refusal",
        "_stalled",
        "_streaming",
        "_task",
        "_tunnel",
        "deadline",
    )

    def __init__(self, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._limits = owner.limits
        self._queue: list[Exchange] = []
        self._task: asyncio.Task[None] | None = None
        self._owed_continue = False
        self._refusal: Response | None = None
        self._discards = False  # a request was refused: what follows is read and dropped
        self._tunnel: Tunnel | None = None
        self._streaming = False
        self._patient = False  # a person may read on when they like
        self._expired = False
        self._stalled = 0
        self.deadline = self._in(self._limits.head_timeout)

    def _in(self, seconds: float) -> float:
        return self._loop.time() + seconds

    # --- from the wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connected(cast("Wire", transport))

    def connected(self, wire: Wire) -> None:
        self._flow = Flow(wire)
        user = self._owner.identify(wire.get_extra_info("peercert"), wire.get_extra_info("peercert_der"))
        self._reader = RequestReader(self, self._limits, user)
        self._owner.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.ended(self)
        self._flow.lose()
        self._queue.clear()
        self._reader.end()
        if self._tunnel is not None:
            self._tunnel.feed(b"")
        elif self._task is not None and self._streaming:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._flow.pause()
        if not self._patient:
            self._stalled = self._flow.wire.get_write_buffer_size()
            self.deadline = self._in(self._limits.stall_timeout)

    def resume_writing(self) -> None:
        self._flow.resume()
        if not self._patient:
            self.deadline = _NEVER if self._streaming else self._in(self._limits.request_timeout)

    def data_received(self, data: bytes) -> None:
        if self._discards:
            return
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        try:
            self._reader.feed(data)
        except Refused as refused:
            self._refuse(refused.error)
        if self._reader.held is not None and len(self._reader.held) > self._limits.head:
            self._flow.wire.pause_reading()

    # --- from the reader

    def head_begun(self) -> None:
        if self._task is None:
            self.deadline = self._in(self._limits.head_timeout)

    def head_read(self, *, wants_continue: bool) -> None:
        if self._task is None:
            self.deadline = self._in(self._limits.body_timeout)
            if wants_continue:
                self._flow.wire.write(CONTINUE)
        else:
            self._owed_continue = wants_continue

    def request_read(self, exchange: Exchange) -> None:
        self._owed_continue = False
        if self._task is None:
            self._task = self._loop.create_task(self._serve(exchange))
        else:
            self._queue.append(exchange)
            if len(self._queue) == self._limits.pipeline:
                self._flow.wire.pause_reading()

    # --- refusals

    def _refuse(self, error: StatusError) -> None:
        """Read no further; answer with `error` once earlier requests are answered."""
        self._refusal = failure(error)
        self._discards = True
        if self._task is None:
            self._end_refused()

    def _end_refused(self) -> None:
        """Write the refusal and close, late enough that a peer still sending can read it."""
        if self._refusal is not None and not self._flow.wire.is_closing():
            self._write(self._refusal, None, keep_alive=False)
            self._refusal = None
        self.deadline = self._in(self._limits.linger)

    # --- answers

    async def _serve(self, exchange: Exchange) -> None:
        """Answer this request and those that queue behind it."""
        try:
            while True:
                self.deadline = self._in(self._limits.request_timeout)
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
        if self._discards:
            self._end_refused()
            return
        if self._owed_continue and not self._flow.wire.is_closing():
            self._owed_continue = False
            self._flow.wire.write(CONTINUE)
        self.deadline = self._in(self._limits.body_timeout if self._reader.in_body else self._limits.idle_timeout)

    async def _answer(self, exchange: Exchange) -> bool:
        """Answer one request; whether the connection can take another one."""
        answer = await self._handle(exchange.request)
        if self._flow.gone:
            return False
        if isinstance(answer, Response):
            await self._respond(answer, exchange)
        elif isinstance(answer, StreamResponse):
            await self._stream(answer, exchange)
        elif exchange.upgrade and self._reader.held is not None:
            await self._switch(answer)
            return False
        else:
            error = StatusError(400, "BadRequest", "unable to upgrade connection")
            await self._respond(failure(error), exchange)
        if self._reader.held is not None:
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

    async def _respond(self, answer: Response, exchange: Exchange) -> None:
        if wants_gzip(answer, exchange.request.headers):
            answer = await asyncio.to_thread(compressed, answer)
            if self._flow.gone:
                return
        for part in self._write(answer, exchange, keep_alive=exchange.keep_alive):
            if self._flow.wire.get_write_buffer_size() > _HELD:
                await self._flow.drain()  # others get their turn; a slow reader holds no encrypted copy of everything
                if self._flow.gone:
                    return
            self._flow.wire.write(part)

    def _write(self, answer: Response, exchange: Exchange | None, *, keep_alive: bool) -> Sequence[bytes]:
        """Head and body in one write, so that they share a packet and a TLS record; of a long body the parts are
        returned that are still to be written."""
        parts = (answer.body,) if isinstance(answer.body, bytes) else answer.body
        size = sum(map(len, parts))
        framing = f"Content-Length: {size}\r\n" if has_body(answer.status) and not answer.measured else ""
        if not keep_alive or self._flow.stopping:
            framing += "Connection: close\r\n"
        elif exchange is not None and exchange.old:
            framing += "Connection: keep-alive\r\n"
        request_id = exchange.request.headers.get("audit-id", "") if exchange is not None else ""
        content_type = answer.content_type if has_body(answer.status) else ""
        head = response_head(answer.status, content_type, answer.headers, answer.warnings, request_id, framing)
        if not has_body(answer.status) or (exchange is not None and exchange.request.method == "HEAD"):
            parts, size = (), 0
        if size <= _ONE_WRITE:
            self._flow.wire.write(b"".join((head, *parts)))
            return ()
        self._flow.wire.write(head)
        return parts

    async def _stream(self, answer: StreamResponse, exchange: Exchange) -> None:
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
        self._be_patient(answer.patient)
        self._streaming = True
        label = f"{request.method} {request.path}"
        del request
        exchange.forget()
        try:
            await answer.produce(writer)
        except asyncio.CancelledError:
            if not self._flow.stopping:
                raise
        except BrokenOff as broken:
            log.info("stream of %s: %s", label, broken)
            self._flow.wire.abort()  # without a last chunk, so that the peer sees a broken stream
            return
        except Exception:
            log.exception("stream of %s", label)
            self._flow.wire.abort()
            return
        finally:
            self._streaming = self._patient = False
        writer.finish()

    async def _switch(self, answer: Upgrade) -> None:
        head = response_head(101, "", [*answer.headers, ("Connection", "Upgrade")], (), "", "")
        self._flow.wire.write(head)
        self._tunnel = Tunnel(self._flow, self._reader.take_held())
        self._be_patient(True)
        self._streaming = True
        self._flow.wire.resume_reading()
        await answer.run(self._tunnel)

    def _be_patient(self, patient: bool) -> None:
        """A stream that may stand still is looked after now and then: its peer may have gone unnoticed."""
        self._patient = patient
        self.deadline = self._in(self._limits.look) if patient else _NEVER

    def _resume_parsing(self) -> None:
        """The upgrade was not taken: what followed is HTTP again."""
        self._flow.wire.resume_reading()
        try:
            self._reader.resume()
        except Refused as refused:
            self._refuse(refused.error)

    # --- ends

    def expire(self) -> None:
        """The deadline has passed."""
        if self._flow.wire.is_closing():
            self.abort()  # the peer does not take the rest
        elif self._patient:
            self.deadline = self._in(self._limits.look)
            if tcp.is_dead(self._flow.wire.get_extra_info("socket")):
                self.abort()
        elif self._flow.paused:
            waiting = self._flow.wire.get_write_buffer_size()
            if waiting < self._stalled:
                self._stalled = waiting
                self.deadline = self._in(self._limits.stall_timeout)
            else:
                self._flow.wire.abort()
        elif self._task is not None:
            self._expired = True
            self.deadline = self._in(self._limits.request_timeout)
            self._task.cancel()
        elif self._discards:
            self._close()
        elif not self._reader.is_idle:
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
