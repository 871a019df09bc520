"""Clients of the kubelet API's streams: WebSocket channels, SPDY, and SPDY in a WebSocket, as kubectl has been."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from twinstack.api import websocket
from twinstack.api.websocket import Message, Opcode
from twinstack.node.streaming import spdy

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x11\x22\x33\x44"


class Refused(Exception):
    """An answer other than 101."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Upgraded:
    """A connection after an upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    @classmethod
    async def open(
        cls, port: int, context: ssl.SSLContext, method: str, target: str, headers: Iterable[tuple[str, str]]
    ) -> Upgraded:
        """Raises Refused."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        lines = [f"{method} {target} HTTP/1.1", "Host: node", "Connection: Upgrade", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "\r\n"]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        if status != 101:
            length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
            text = (await reader.readexactly(length)).decode()
            writer.close()
            await writer.wait_closed()
            raise Refused(status, text)
        return cls(reader, writer, head)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    def abort(self) -> None:
        """As a client that is killed."""
        self.writer.transport.abort()


class WebSocketClient:
    """Speaks in messages."""

    def __init__(self, connection: Upgraded) -> None:
        self.connection = connection
        self._decoder = websocket.Decoder(masked=False)
        self._messages: list[Message] = []

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext, target: str, protocol: str) -> WebSocketClient:
        headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
        headers.append(("Sec-WebSocket-Protocol", protocol))
        return cls(await Upgraded.open(port, context, "GET", target, headers))

    def send(self, payload: bytes, opcode: Opcode = Opcode.BINARY) -> None:
        self.connection.writer.write(websocket.frame(opcode, payload, MASK))

    async def receive(self) -> Message:
        """Raises EOFError."""
        while not self._messages:
            data = await self.connection.reader.read(65536)
            if not data:
                raise EOFError
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def to_the_end(self) -> dict[int, bytes]:
        """What came on every channel until the server closed; its close is answered."""
        channels: dict[int, bytearray] = {}
        while (message := await self.receive()).opcode is not Opcode.CLOSE:
            if message.opcode is Opcode.BINARY:
                channels.setdefault(message.payload[0], bytearray()).extend(message.payload[1:])
        assert message.payload[:2] == b"\x03\xe8"
        self.send(message.payload, Opcode.CLOSE)
        await self.connection.close()
        return {channel: bytes(data) for channel, data in channels.items()}


class SPDYClient:
    """Opens streams. `raw` carries the bytes: the connection itself, or binary messages of a WebSocket."""

    def __init__(self, connection: Upgraded | WebSocketClient) -> None:
        self.raw = connection
        self._encoder = spdy.Encoder()
        self._decoder = spdy.Decoder()
        self._next = 1
        self.data: dict[int, bytes] = {}
        self.finished: set[int] = set()
        self.replied: set[int] = set()
        self.others: list[Any] = []

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext, target: str, *protocols: str) -> SPDYClient:
        headers = [("Upgrade", "SPDY/3.1"), *(("X-Stream-Protocol-Version", each) for each in protocols)]
        return cls(await Upgraded.open(port, context, "POST", target, headers))

    def _write(self, data: bytes) -> None:
        if isinstance(self.raw, WebSocketClient):
            self.raw.send(data)
        else:
            self.raw.writer.write(data)

    async def _read(self) -> bytes:
        """Raises EOFError."""
        if isinstance(self.raw, WebSocketClient):
            message = await self.raw.receive()
            return message.payload if message.opcode is Opcode.BINARY else b""
        data = await self.raw.reader.read(65536)
        if not data:
            raise EOFError
        return data

    def stream(self, **headers: str) -> int:
        number = self._next
        self._next += 2
        self.data[number] = b""
        self._write(self._encoder.open(number, headers))
        return number

    def send(self, stream: int, data: bytes, *, finished: bool = False) -> None:
        self._write(self._encoder.data(stream, data, finished=finished))

    def ping(self, number: int) -> None:
        self._write(self._encoder.ping(number))

    def reset(self, stream: int) -> None:
        self._write(self._encoder.reset(stream, spdy.ResetStatus.CANCEL))

    async def step(self) -> None:
        """Take in what comes next. Raises EOFError."""
        for frame in self._decoder.feed(await self._read()):
            match frame:
                case spdy.Data(stream, data, finished):
                    assert stream in self.replied
                    self.data[stream] += data
                    if finished:
                        self.finished.add(stream)
                case spdy.Reply(stream):
                    self.replied.add(stream)
                case _:
                    self.others.append(frame)

    async def until_finished(self, *streams: int) -> None:
        while not self.finished.issuperset(streams):
            await self.step()

    async def until(self, stream: int, text: bytes) -> None:
        while text not in self.data[stream]:
            await self.step()

    async def close(self) -> None:
        self._write(self._encoder.go_away(0))
        connection = self.raw.connection if isinstance(self.raw, WebSocketClient) else self.raw
        await connection.close()
