"""Channels over a WebSocket: the first byte of a message names the channel (`*.channel.k8s.io`).

The `base64` forms carry text: the channel's digit, then base64. From version 5 the message `255, channel` ends one
channel (KEP-3396).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from twinstack.api.websocket import (
    NORMAL,
    PROTOCOL_ERROR,
    Decoder,
    Message,
    Opcode,
    ProtocolError,
    close_frame,
    frame,
)
from twinstack.node.streaming.connection import Connection

END = 255  # the channel that tells of the end of another one
_LONGEST = 32 << 10  # bytes of one message to a client

log = logging.getLogger(__name__)


class Subprotocol(NamedTuple):
    """What the name says. Status objects are sent from version 4 on, plain words before."""

    version: int
    base64: bool = False


SUBPROTOCOLS = {
    "v5.channel.k8s.io": Subprotocol(5),
    "v4.channel.k8s.io": Subprotocol(4),
    "v4.base64.channel.k8s.io": Subprotocol(4, base64=True),
    "channel.k8s.io": Subprotocol(1),
    "base64.channel.k8s.io": Subprotocol(1, base64=True),
    "": Subprotocol(1),
}

Receive = Callable[[int, bytes], Awaitable[None]]


class WebSocketChannels:
    """The server's side. `receive` gets every message of a client, and may wait to slow it down."""

    def __init__(self, connection: Connection, subprotocol: Subprotocol, receive: Receive) -> None:
        self._connection = connection
        self._base64 = subprotocol.base64
        self._receive = receive
        self._closed = False

    async def serve(self) -> None:
        """Until the client has closed, or gone, or broken the protocol."""
        decoder = Decoder()
        try:
            while data := await self._connection.read():
                for message in decoder.feed(data):
                    if not await self._take(message):
                        return
        except ProtocolError as error:
            log.debug("WebSocket: %s", error)
            self.close(error.code)

    async def _take(self, message: Message) -> bool:
        """False for the last one."""
        if message.opcode is Opcode.CLOSE:
            self.close(NORMAL)
            return False
        if message.opcode is Opcode.PING:
            self._connection.write(frame(Opcode.PONG, message.payload))
        elif message.opcode is not Opcode.PONG and message.payload:
            channel, data = self._split(message)
            await self._receive(channel, data)
        return True

    def _split(self, message: Message) -> tuple[int, bytes]:
        if not self._base64:
            return message.payload[0], message.payload[1:]  # of text as well: the Python client sends str so
        try:
            return message.payload[0] - ord("0"), base64.b64decode(message.payload[1:], validate=True)
        except binascii.Error as error:
            raise ProtocolError(PROTOCOL_ERROR, f"base64: {error}") from error

    async def send(self, channel: int, data: bytes) -> None:
        """Also an empty message is one."""
        for start in range(0, len(data) or 1, _LONGEST):
            part = data[start : start + _LONGEST]
            if self._base64:
                message = frame(Opcode.TEXT, b"%d" % channel + base64.b64encode(part))
            else:
                message = frame(Opcode.BINARY, bytes([channel]) + part)
            self._connection.write(message)
            await self._connection.drain()

    def ping(self) -> None:
        self._connection.write(frame(Opcode.PING, b""))

    def close(self, code: int) -> None:
        """Say good-bye; the client then closes. Idempotent."""
        if not self._closed:
            self._closed = True
            self._connection.write(close_frame(code))


class WebSocketTunnel:
    """A Connection in the binary messages of a WebSocket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder = Decoder()
        self._parts: list[bytes] = []
        self._over = False

    async def read(self) -> bytes:
        while not self._parts and not self._over:
            data = await self._connection.read()
            if not data:
                self._over = True
                break
            try:
                for message in self._decoder.feed(data):
                    self._take(message)
            except ProtocolError as error:
                log.debug("WebSocket: %s", error)
                self._over = True
                self._connection.write(close_frame(error.code))
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def _take(self, message: Message) -> None:
        if message.opcode is Opcode.CLOSE:
            self._connection.write(close_frame(NORMAL))
            self._over = True
        elif message.opcode is Opcode.PING:
            self._connection.write(frame(Opcode.PONG, message.payload))
        elif message.opcode is Opcode.BINARY and not self._over and message.payload:
            self._parts.append(message.payload)

    def write(self, data: bytes) -> None:
        self._connection.write(frame(Opcode.BINARY, data))

    async def drain(self) -> None:
        await self._connection.drain()
