"""Watches and logs as WebSocket messages, for clients that ask that way: browsers, and whoever reads logs like `exec`.

An event of a watch is a text message. A log comes in binary messages, or in base64 as text, by the subprotocol.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from twinstack.api.errors import StatusError
from twinstack.api.websocket import NORMAL, Decoder, Opcode, ProtocolError, accept_key, close_frame, frame
from twinstack.server.messages import (
    Answer,
    BrokenOff,
    Duplex,
    Request,
    StreamResponse,
    StreamWriter,
    Upgrade,
    wants_upgrade,
)

BASE64 = "base64.binary.k8s.io"
_OF_BYTES = ("binary.k8s.io", BASE64)
_LONGEST_FROM_CLIENT = 1 << 16  # bytes: nothing that it says matters

Produce = Callable[[StreamWriter], Awaitable[None]]


class _Form(NamedTuple):
    """How bytes become messages. `first`: messages before anything else."""

    opcode: Opcode
    parts: Callable[[bytes], Iterable[bytes]]
    first: tuple[bytes, ...] = ()


_LINES = _Form(Opcode.TEXT, bytes.splitlines)
# An empty message tells the client that the log is open, long before there may be anything in it.
_BINARY = _Form(Opcode.BINARY, lambda data: (data,), (b"",))
_IN_BASE64 = _Form(Opcode.TEXT, lambda data: (base64.b64encode(data),), (b"",))


def events(request: Request, answer: StreamResponse) -> Answer:
    """A watch as it was asked for; `answer` is made of whole lines. Raises StatusError."""
    if not _is_asked_for(request):
        return answer
    return _upgrade(request, answer, _LINES, next(iter(_offered(request)), ""))


def log(request: Request, answer: StreamResponse) -> Answer:
    """A log as it was asked for. Raises StatusError when no subprotocol suits."""
    if not _is_asked_for(request):
        return answer
    offered = _offered(request)
    chosen = next((protocol for protocol in offered if protocol in _OF_BYTES), "")
    if offered and not chosen:
        raise StatusError(403, "Forbidden", f"none of the protocols is served: {', '.join(offered)}")
    return _upgrade(request, answer, _IN_BASE64 if chosen == BASE64 else _BINARY, chosen)


def _is_asked_for(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket" and wants_upgrade(request.headers)


def _offered(request: Request) -> list[str]:
    return [word for each in request.headers.get("sec-websocket-protocol", "").split(",") if (word := each.strip())]


def _upgrade(request: Request, answer: StreamResponse, form: _Form, protocol: str) -> Upgrade:
    key = request.headers.get("sec-websocket-key", "")
    if not key:
        raise StatusError(400, "BadRequest", "missing Sec-WebSocket-Key")
    headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept_key(key))]
    headers += [("Sec-WebSocket-Protocol", protocol)] if protocol else []
    return Upgrade(run=lambda client: _run(client, answer.produce, form), headers=headers)


async def _run(client: Duplex, produce: Produce, form: _Form) -> None:
    """Until the stream ends or the client goes."""
    for data in form.first:
        client.write(frame(form.opcode, data))
    work = asyncio.ensure_future(produce(_Messages(client, form)))
    leaving = asyncio.ensure_future(_listen(client))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            with contextlib.suppress(BrokenOff):  # the client sees that no close frame comes
                work.result()
                client.write(close_frame(NORMAL))
                await client.drain()
    finally:
        for task in (work, leaving):
            task.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)


async def _listen(client: Duplex) -> None:
    """Answer pings until the client says that it goes, is gone, or breaks the protocol."""
    decoder = Decoder(limit=_LONGEST_FROM_CLIENT)
    with contextlib.suppress(ProtocolError):
        while data := await client.read():
            for message in decoder.feed(data):
                if message.opcode is Opcode.CLOSE:
                    client.write(close_frame(NORMAL))
                    return
                if message.opcode is Opcode.PING:
                    client.write(frame(Opcode.PONG, message.payload))


class _Messages:
    """A `StreamWriter` of messages."""

    __slots__ = ("_client", "_form")

    def __init__(self, client: Duplex, form: _Form) -> None:
        self._client = client
        self._form = form

    def write(self, data: bytes) -> None:
        for part in self._form.parts(data):
            self._client.write(frame(self._form.opcode, part))

    def pending(self) -> int:
        return self._client.pending()

    async def drain(self) -> None:
        await self._client.drain()

    def closed(self) -> Awaitable[None]:
        return self._client.closed()
