"""Connections without sockets: what a peer would send, and what it would get."""

from __future__ import annotations

import asyncio


class Wire:
    """One end (see streaming.connection.Connection); `sent` is what was written to it."""

    def __init__(self, *incoming: bytes, ends: bool = True) -> None:
        self.sent = b""
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        for data in incoming:
            self.say(data)
        if ends:
            self.say(b"")

    def say(self, data: bytes) -> None:
        """The peer sends this; nothing: it has gone."""
        self._incoming.put_nowait(data)

    async def read(self) -> bytes:
        return await self._incoming.get()

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        await asyncio.sleep(0)
