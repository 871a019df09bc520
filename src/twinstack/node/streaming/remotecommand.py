"""exec and attach: a session with a program, joined to a client's streams by one of two transports.

Both transports show the same streams: input, output, errors, the window's size, and at the end how it went.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

from twinstack.api.websocket import NORMAL
from twinstack.node.runtime.base import STDERR, STDOUT, Session, StartError
from twinstack.node.streaming import status
from twinstack.node.streaming.channels import END, SUBPROTOCOLS, Subprotocol, WebSocketChannels
from twinstack.node.streaming.connection import Connection, Inbox
from twinstack.node.streaming.negotiation import Choice, Transport
from twinstack.node.streaming.spdy import ResetStatus
from twinstack.node.streaming.streams import SPDYStreams, Stream

WEBSOCKET_PROTOCOLS = tuple(SUBPROTOCOLS)
SPDY_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
STREAMS_WITHIN = 30.0  # seconds until a client has opened its streams
LINGER = 60.0  # seconds that a client may take to read the rest and close
_STDIN, _ERROR, _RESIZE = 0, 3, 4  # channels beside STDOUT and STDERR
_LONGEST_SIZE = 1024  # bytes


class Wanted(NamedTuple):
    """Which streams the client asked for. A terminal's errors come with its output."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Streams(Protocol):
    """What a client and a program say to each other."""

    input: Inbox
    sizes: Sizes

    async def serve(self) -> None:
        """Read from the client until it is gone."""

    async def ready(self) -> bool:
        """Wait until all streams are there; False when the client did not open them in time."""

    async def write(self, stream: int, data: bytes) -> None: ...

    async def finish(self, result: dict[str, Any]) -> None:
        """The last word."""


class Talk(NamedTuple):
    """What is to be done: how the session begins, what was asked to run (nothing: attach), and the word for it."""

    begin: Callable[[], Awaitable[Session]]
    command: list[str]
    doing: str  # `executing command`, `attaching to container`


async def converse(connection: Connection, choice: Choice, wanted: Wanted, talk: Talk) -> None:
    """Begin a session once the client is ready, and pass everything on until one of both has ended.

    A session whose client goes is closed, which ends the program that was started for it.
    """
    streams = _streams(connection, choice, wanted)
    serving = asyncio.ensure_future(streams.serve())
    speaking = asyncio.ensure_future(_speak(streams, wanted, talk))
    try:
        await asyncio.wait({serving, speaking}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await asyncio.wait({serving}, timeout=LINGER)
    finally:
        for task in (speaking, serving):
            await _end(task)


async def _end(task: asyncio.Future[None]) -> None:
    """Cancel it; raises what it has failed with."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _speak(streams: Streams, wanted: Wanted, talk: Talk) -> None:
    if not await streams.ready():
        return
    try:
        session = await talk.begin()
    except (StartError, OSError) as error:
        await streams.finish(status.of_failure(f"error {talk.doing} in container: {error}"))
        return
    feeding = asyncio.ensure_future(_feed(streams.input, session))
    streams.sizes.tell(session.resize)
    try:
        async with aclosing(session.output()) as output:
            await _pass_on(output, streams, wanted)
        code = await session.exit_code()
    finally:
        streams.sizes.tell(None)
        await _end(feeding)
        await session.close()
    await streams.finish(status.of_exit(talk.command, code))


async def _feed(source: Inbox, session: Session) -> None:
    while data := await source.read():
        await session.write(data)
    await session.end_input()


async def _pass_on(output: AsyncGenerator[tuple[int, bytes], None], streams: Streams, wanted: Wanted) -> None:
    taken = {STDOUT} if wanted.stdout else set[int]()
    if wanted.stderr and not wanted.tty:
        taken.add(STDERR)
    async for stream, data in output:
        if stream in taken:
            await streams.write(stream, data)


def _streams(connection: Connection, choice: Choice, wanted: Wanted) -> Streams:
    if choice.transport is Transport.WEBSOCKET:
        return _WebSocketStreams(connection, SUBPROTOCOLS[choice.protocol], wanted)
    return _SPDYCommandStreams(connection, int(choice.protocol[1]), wanted)


class Sizes:
    """Window sizes out of a stream of JSON objects, for the terminal once there is one."""

    def __init__(self) -> None:
        self._buffer = b""
        self._last: tuple[int, int] | None = None
        self._resize: Callable[[int, int], None] | None = None

    def put(self, data: bytes) -> None:
        """Nonsense is skipped, and an object that never ends forgotten."""
        *objects, rest = (self._buffer + data).split(b"}")
        self._buffer = rest[-_LONGEST_SIZE:]
        for text in objects:
            size = _size(text + b"}")
            if size is not None:
                self._last = size
                if self._resize is not None:
                    self._resize(*size)

    def tell(self, resize: Callable[[int, int], None] | None) -> None:
        """Call `resize` with columns and rows, at once if they are known; None: no longer."""
        self._resize = resize
        if self._last is not None and resize is not None:
            resize(*self._last)


def _size(text: bytes) -> tuple[int, int] | None:
    try:
        size = json.loads(text)
        columns, rows = int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return None
    return (columns, rows) if columns >= 0 and rows >= 0 else None


class _WebSocketStreams:
    def __init__(self, connection: Connection, subprotocol: Subprotocol, wanted: Wanted) -> None:
        self._channels = WebSocketChannels(connection, subprotocol, self._receive)
        self._version = subprotocol.version
        self._wanted = wanted
        self.sizes = Sizes()
        self.input = Inbox()
        if not wanted.stdin:
            self.input.end()

    async def serve(self) -> None:
        await self._channels.serve()

    async def ready(self) -> bool:
        """An empty message tells the client that it is connected, as kubelet's does."""
        wanted = self._wanted
        await self._channels.send(STDOUT if wanted.stdout else STDERR if wanted.stderr else _ERROR, b"")
        return True

    async def write(self, stream: int, data: bytes) -> None:
        await self._channels.send(stream, data)

    async def finish(self, result: dict[str, Any]) -> None:
        text = status.encoded(result, self._version)
        if text:
            await self._channels.send(_ERROR, text)
        self._channels.close(NORMAL)

    async def _receive(self, channel: int, data: bytes) -> None:
        if channel == _STDIN:
            self.input.put(data)
            await self.input.room(self._channels.ping)
        elif channel == _RESIZE:
            self.sizes.put(data)
        elif channel == END and self._version >= 5 and data[:1] == bytes([_STDIN]):
            self.input.end()


class _SPDYCommandStreams:
    def __init__(self, connection: Connection, version: int, wanted: Wanted) -> None:
        self._streams = SPDYStreams(connection, self._opened)
        self._version = version
        self._expected = {"error"}
        self._expected |= {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
        if wanted.tty:
            self._expected.discard("stderr")
            if version >= 3:
                self._expected.add("resize")
        self._present: dict[str, Stream] = {}
        self._complete = asyncio.Event()
        self.sizes = Sizes()
        self._resizing: asyncio.Future[None] | None = None
        self.input = Inbox()
        if not wanted.stdin:
            self.input.end()

    async def serve(self) -> None:
        try:
            await self._streams.serve()
        finally:
            if self._resizing is not None:
                self._resizing.cancel()

    async def ready(self) -> bool:
        try:
            async with asyncio.timeout(STREAMS_WITHIN):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    def _opened(self, stream: Stream) -> None:
        name = stream.headers.get("streamtype", "").lower()
        if name not in self._expected or name in self._present:
            stream.reset(ResetStatus.REFUSED_STREAM)
            return
        self._present[name] = stream
        if name == "stdin":
            self.input = stream.inbox
        elif name == "resize":
            self._resizing = asyncio.ensure_future(self._read_sizes(stream))
        if self._present.keys() == self._expected:
            self._complete.set()

    async def _read_sizes(self, stream: Stream) -> None:
        while data := await stream.read():
            self.sizes.put(data)

    async def write(self, stream: int, data: bytes) -> None:
        target = self._present.get("stdout" if stream == STDOUT else "stderr")
        if target is not None:
            await target.write(data)

    async def finish(self, result: dict[str, Any]) -> None:
        error = self._present["error"]
        await error.write(status.encoded(result, self._version))
        for stream in self._present.values():
            stream.finish()
