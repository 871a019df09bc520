"""port-forward: connections of a client to ports of a pod, each a pair of streams, one for data and one for an error.

Over SPDY (also inside a WebSocket) a client opens a pair for every connection; over WebSocket channels there is one
connection a port from the start, on channels 2i and 2i + 1.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from twinstack.ip import Address
from twinstack.node.streaming.channels import SUBPROTOCOLS, Subprotocol, WebSocketChannels, WebSocketTunnel
from twinstack.node.streaming.connection import Channel, Connection, Inbox
from twinstack.node.streaming.negotiation import SPDY_UPGRADE, Choice, Refusal, Transport
from twinstack.node.streaming.spdy import ResetStatus
from twinstack.node.streaming.streams import SPDYStreams, Stream
from twinstack.node.streaming.websocket import NORMAL

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


async def forward(port: int, data: Channel, error: Channel, dial: Dial) -> None:
    """One connection: both directions until both are at their ends. Its failure is told on `error`."""
    try:
        reader, writer = await dial(port)
    except OSError as problem:
        await error.write(str(problem).encode())
        error.finish()
        data.finish()
        return
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


async def _send(data: Channel, writer: asyncio.StreamWriter) -> None:
    """What the client says, and then that it has said all."""
    while piece := await data.read():
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _Tasks:
    """The connections of one client. What fails is logged, and harms no other one."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("port-forward")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def first(self, other: asyncio.Future[None]) -> None:
        """Wait until one of them, or `other`, is done."""
        await asyncio.wait({*self._tasks, other}, return_when=asyncio.FIRST_COMPLETED)

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Pairs:
    """Pairs of SPDY streams, told apart by their `requestid`."""

    def __init__(self, connection: Connection, dial: Dial) -> None:
        self._streams = SPDYStreams(connection, self._opened)
        self._dial = dial
        self._tasks = _Tasks()
        self._halves: dict[str, dict[str, Stream]] = {}

    async def serve(self) -> None:
        try:
            await self._streams.serve()
        finally:
            await self._tasks.end()

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
        self._tasks.start(forward(int(port), pair["data"], pair["error"], self._dial))

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
        self._tasks = _Tasks()

    async def serve(self, dial: Dial) -> None:
        serving = asyncio.ensure_future(self._channels.serve())
        try:
            for index, port in enumerate(self._ports):
                data, error = self._halves[2 * index : 2 * index + 2]
                for half in (data, error):
                    await half.write(struct.pack("<H", port))
                self._tasks.start(forward(port, data, error, dial))
            await self._tasks.first(serving)
            self._channels.close(NORMAL)  # the end of one connection is the end of all, as upstream
            await asyncio.wait({serving}, timeout=LINGER)
        finally:
            await self._tasks.end()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def _receive(self, channel: int, data: bytes) -> None:
        if channel < len(self._halves):
            inbox = self._halves[channel].inbox
            inbox.put(data)
            await inbox.room()
