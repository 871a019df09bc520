"""port-forward: connections of a client to ports of a pod, each a pair of streams, one for data and one for an error.

Over SPDY (also inside a WebSocket) a client opens a pair for every connection; over WebSocket channels there is one
connection a port from the start, on channels 2i and 2i + 1.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from twinstack.api.websocket import NORMAL
from twinstack.ip import Address
from twinstack.node.streaming.channels import SUBPROTOCOLS, Subprotocol, WebSocketChannels, WebSocketTunnel
from twinstack.node.streaming.connection import Channel, Connection, Inbox
from twinstack.node.streaming.negotiation import SPDY_UPGRADE, Choice, Refusal, Transport
from twinstack.node.streaming.spdy import ResetStatus
from twinstack.node.streaming.streams import SPDYStreams, Stream

SPDY_PROTOCOLS = ("portforward.k8s.io",)
TUNNEL = f"{SPDY_UPGRADE}+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = (TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
LOOPBACKS = (Address.parse("127.0.0.1"), Address.parse("::1"))  # in the order in which they are tried
PAIR_WITHIN = 30.0  # seconds between the two streams of a connection
CONNECT_SECONDS = 10.0
LINGER = 60.0  # seconds that a client may take to read the rest and close
_PIECE = 64 << 10

Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

log = logging.getLogger(__name__)


def ports_of(texts: Sequence[str]) -> list[int]:
    """The ports of a query's `port` parameters, several in one separated by commas. Raises Refusal."""
    ports = []
    for text in (part.strip() for value in texts for part in value.split(",")):
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise Refusal(400, f'unable to parse "{text}" as a port')
        ports.append(int(text))
    return ports


async def serve(connection: Connection, choice: Choice, ports: Sequence[int], dial: Dial) -> None:
    """Forward until the client has gone. `ports` are those of a client that speaks in channels."""
    if choice.transport is Transport.SPDY:
        await _Pairs(connection, dial).serve()
    elif choice.protocol == TUNNEL:
        await _Pairs(WebSocketTunnel(connection), dial).serve()
    else:
        await _ChannelPorts(connection, SUBPROTOCOLS[choice.protocol], ports).serve(dial)


async def forward(port: int, data: Channel, error: Channel, dial: Dial) -> bool:
    """One connection: both directions until both are at their ends. A failure is told on `error`.

    Returns whether there was a connection.
    """
    try:
        reader, writer = await dial(port)
    except OSError as problem:
        await error.write(str(problem).encode())
        error.finish()
        data.finish()
        return False
    sending = asyncio.ensure_future(_send(data, writer))
    try:
        while piece := await reader.read(_PIECE):
            await data.write(piece)
        data.finish()
        error.finish()
        await sending
    except ConnectionError as problem:
        await error.write(f"error forwarding port {port}: {problem}".encode())
    finally:
        sending.cancel()
        data.finish()
        error.finish()
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await sending
            await writer.wait_closed()
    return True


async def _send(data: Channel, writer: asyncio.StreamWriter) -> None:
    """What the client says, and then that it has said all."""
    while piece := await data.read():
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _end(tasks: Iterable[asyncio.Task[bool]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


class _Pairs:
    """Pairs of SPDY streams, told apart by their `requestid`."""

    def __init__(self, connection: Connection, dial: Dial) -> None:
        self._streams = SPDYStreams(connection, self._opened)
        self._dial = dial
        self._tasks: set[asyncio.Task[bool]] = set()
        self._halves: dict[str, dict[str, Stream]] = {}

    async def serve(self) -> None:
        try:
            await self._streams.serve()
        finally:
            await _end(self._tasks)

    def _opened(self, stream: Stream) -> None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        number = stream.headers.get("requestid") or str(stream.number - (2 if kind == "data" else 0))
        half = self._halves.get(number, {})
        if kind not in ("data", "error") or kind in half or not port.isdecimal() or not 1 <= int(port) <= 65535:
            stream.reset(ResetStatus.REFUSED_STREAM)
            return
        if not half:
            self._halves[number] = {kind: stream}
            asyncio.get_running_loop().call_later(PAIR_WITHIN, self._give_up, number, stream)
            return
        del self._halves[number]
        pair = half | {kind: stream}
        task = asyncio.create_task(forward(int(port), pair["data"], pair["error"], self._dial))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        """What fails harms no other connection."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("port-forward", exc_info=task.exception())

    def _give_up(self, number: str, stream: Stream) -> None:
        if stream in self._halves.get(number, {}).values():
            del self._halves[number]
            stream.reset(ResetStatus.CANCEL)


class _Half:
    """One channel of a WebSocket as a Channel; it has no end of its own."""

    def __init__(self, channels: WebSocketChannels, number: int) -> None:
        self._channels = channels
        self._number = number
        self.inbox = Inbox()

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> None:
        await self._channels.send(self._number, data)

    def finish(self) -> None:
        """Only the end of the whole WebSocket is told, so nothing that would come is worth waiting for."""
        self.inbox.end()


class _ChannelPorts:
    """One connection a port. Both channels begin with the port as two bytes, the lower one first."""

    def __init__(self, connection: Connection, subprotocol: Subprotocol, ports: Sequence[int]) -> None:
        self._channels = WebSocketChannels(connection, subprotocol, self._receive)
        self._ports = ports
        self._halves = [_Half(self._channels, number) for number in range(2 * len(ports))]

    async def serve(self, dial: Dial) -> None:
        serving = asyncio.ensure_future(self._channels.serve())
        forwarding: set[asyncio.Task[bool]] = set()
        try:
            for index, port in enumerate(self._ports):
                data, error = self._halves[2 * index : 2 * index + 2]
                for half in (data, error):
                    await half.write(struct.pack("<H", port))
                forwarding.add(asyncio.create_task(forward(port, data, error, dial)))
            await self._until_one_ends(forwarding, serving)
            self._channels.close(NORMAL)
            await asyncio.wait({serving}, timeout=LINGER)
        finally:
            await _end(forwarding)
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def _until_one_ends(self, forwarding: set[asyncio.Task[bool]], serving: asyncio.Future[None]) -> None:
        """The end of one can only be told by the end of all, as upstream; one that never was connected harms none."""
        running: set[asyncio.Future[Any]] = {*forwarding, serving}
        while len(running) > 1:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if serving in done or any(task.result() for task in done):
                return

    async def _receive(self, channel: int, data: bytes) -> None:
        if channel < len(self._halves):
            inbox = self._halves[channel].inbox
            inbox.put(data)
            await inbox.room(self._channels.ping)
